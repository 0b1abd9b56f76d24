"""The container image as it is run: `make image-check`. Needs docker, and the name of an image in IMAGE.

The container has a read-only root, no capabilities, and a publicly known set of models; what is asked of it is what its
users ask. Knows nothing of how the image is built.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from tests.docs.test_examples import assert_matches, curl_examples, curl_request

IMAGE = os.environ.get("IMAGE", "")
# The environment above its base: mostly PyTorch's library.
MOST_BYTES_OVER_BASE = 600_000_000
BASE = "python:3.11-slim-bookworm"
_HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")

pytestmark = pytest.mark.skipif(not IMAGE or shutil.which("docker") is None, reason="no docker, or no IMAGE to check")


def docker(*arguments: str, check: bool = True) -> str:
    """Standard output of a docker command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


class Container:
    """A running container of the image, ready to be asked."""

    def __init__(self, *arguments: str, options: Sequence[str] = ()) -> None:
        self.id = docker(
            "run",
            "--detach",
            "--env",
            "PENUMBRA_ALLOW_ANONYMOUS=true",
            "--publish",
            "127.0.0.1::8000",
            *_HARDENED,
            *options,
            IMAGE,
            *arguments,
        )
        address = docker("port", self.id, "8000").splitlines()[0]
        self.client = httpx.Client(base_url=f"http://{address}", timeout=30)
        while self.exec("python", "-m", "service", "health") != 0:
            assert self.state["Running"], docker("logs", self.id)

    @property
    def state(self) -> dict[str, Any]:
        """What docker says of it."""
        return json.loads(docker("inspect", self.id))[0]["State"]

    def exec(self, *command: str) -> int:
        """Runs a command in it: the exit code."""
        return subprocess.run(["docker", "exec", self.id, *command], capture_output=True, check=False).returncode

    def python(self, program: str) -> Any:
        """Runs a program in it: what it prints, as JSON."""
        return json.loads(docker("exec", self.id, "python", "-c", program))

    def remove(self) -> None:
        """Whatever state it is in."""
        self.client.close()
        docker("rm", "--force", "--volumes", self.id, check=False)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """One for all questions that change nothing."""
    running = Container("--workers", "2")
    yield running
    running.remove()


@pytest.fixture(scope="module")
def configuration() -> dict[str, Any]:
    """What the image says of itself."""
    return json.loads(docker("image", "inspect", IMAGE))[0]["Config"]


def test_it_is_configured_for_production(configuration: dict[str, Any]) -> None:
    """A user who is not root by number, a volume, no shell around the command, a health check, labels."""
    assert configuration["User"].split(":")[0].isdecimal()
    assert configuration["User"].split(":")[0] != "0"
    assert list(configuration["Volumes"]) == ["/store"]
    assert configuration["Entrypoint"] == ["python", "-m", "service"]
    assert configuration["Healthcheck"]["Test"] == ["CMD", "python", "-m", "service", "health"]
    assert "8000/tcp" in configuration["ExposedPorts"]
    assert configuration["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_is_small() -> None:
    """What it adds to its base stays within bounds."""
    image, base = (json.loads(docker("image", "inspect", name))[0]["Size"] for name in (IMAGE, BASE))
    assert image - base <= MOST_BYTES_OVER_BASE


def test_nobody_in_it_can_write_or_build(container: Container) -> None:
    """It is not root, its files can't be changed, and there is neither pip nor a compiler."""
    seen = container.python(
        "import importlib.util, json, os, shutil\n"
        "def writable(path):\n"
        "    try: open(path + '/canary', 'w').close()\n"
        "    except OSError: return False\n"
        "    return True\n"
        "print(json.dumps({'uid': os.getuid(), 'written': [p for p in ('/', '/app', '/opt/penumbra') if writable(p)],\n"
        "  'tools': [t for t in ('pip', 'pip3', 'cc', 'gcc', 'ld', 'make', 'strip') if shutil.which(t)],\n"
        "  'modules': [m for m in ('pip', 'setuptools', 'ensurepip') if importlib.util.find_spec(m)]}))"
    )
    assert seen == {"uid": seen["uid"], "written": [], "tools": [], "modules": []}
    assert seen["uid"] != 0


def test_everything_in_it_is_compiled(container: Container) -> None:
    """No module is compiled at each start: nothing could keep what came of it."""
    missing = container.python(
        "import json, os.path, sys, importlib.util, service.serving\n"
        "origins = [getattr(getattr(m, '__spec__', 0), 'origin', 0) or '' for m in sys.modules.values()]\n"
        "files = [file for file in origins if file.endswith('.py')]\n"
        "print(json.dumps([f for f in files if not os.path.exists(importlib.util.cache_from_source(f))]))"
    )
    assert missing == []


def test_its_health_check_says_healthy(container: Container) -> None:
    """Docker runs it itself, every few seconds."""
    while (status := container.state["Health"]["Status"]) == "starting":
        pass
    assert status == "healthy"


@pytest.mark.parametrize(("command", "answer"), curl_examples())
def test_the_examples_of_the_readme_work(container: Container, command: str, answer: str) -> None:
    """Each curl line of the README and the docs is answered as it says there."""
    method, path, headers, body = curl_request(command)
    response = container.client.request(method, path, content=body, headers=headers)
    assert_matches(response.json(), json.loads(answer), "$")


def test_it_serves_every_model_that_ships(container: Container) -> None:
    """Each predicts and samples, with its own inputs' means."""
    models = container.client.get("/v1/models").json()["models"]
    assert len(models) == 3
    for model in models:
        assert model["ready"]
        manifest = container.client.get(f"/v1/models/{model['name']}").json()
        body = {"inputs": [[column["mean"] for column in manifest["inputs"]]]}
        assert container.client.post(f"/v1/models/{model['name']}/predict", json=body).status_code == 200
        assert container.client.post(f"/v1/models/{model['name']}/sample", json=body).status_code == 200


def test_process_1_reaps_orphans(container: Container) -> None:
    """A process whose parent is gone does not stay as a zombie."""
    orphan = container.python(
        "import os\nr, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if (grandchild := os.fork()) == 0: os._exit(0)\n"
        "    os.write(w, b'%d' % grandchild); os._exit(0)\n"
        "os.wait(); print(int(os.read(r, 20)))"
    )
    while container.python(f"import os; print(int(os.path.exists('/proc/{orphan}')))"):
        pass


def test_it_works_on_jobs() -> None:
    """Who hands a table in to one container gets what another one made of it; both with a volume that they share."""
    if not docker("run", "--rm", "--entrypoint", "python", IMAGE, "-c", "import dbos; print('yes')", check=False):
        pytest.skip("this image was built without the extra jobs")
    volume = docker("volume", "create")
    shared = ("--volume", f"{volume}:/jobs", "--env", "PENUMBRA_JOBS_DIR=/jobs")
    worker = docker("run", "--detach", *shared, *_HARDENED, IMAGE, "jobs")
    service = Container(options=shared)
    try:
        body = {"model": "diabetes", "verb": "predict", "inputs": [[0.0] * 10]}
        job = service.client.post("/v1/jobs", json=body).raise_for_status().json()["id"]
        while (state := service.client.get(f"/v1/jobs/{job}").json()["state"]) in ("waiting", "running"):
            assert json.loads(docker("inspect", worker))[0]["State"]["Running"], docker("logs", worker)
        assert state == "done"
        assert service.client.get(f"/v1/jobs/{job}/result").text.startswith("progression_mean,")
    finally:
        docker("rm", "--force", worker, check=False)
        service.remove()
        docker("volume", "rm", volume, check=False)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_stops_when_it_is_told_to(workers: str) -> None:
    """On SIGTERM it ends well, with exit code 0, long before docker would kill it."""
    container = Container("--workers", workers)
    try:
        docker("stop", "--time", "40", container.id)
        assert container.state["ExitCode"] == 0
        assert "Traceback" not in docker("logs", container.id)
    finally:
        container.remove()
