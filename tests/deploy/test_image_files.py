"""What the image is built from: what is copied is sent, what is removed is unused, what is named is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.image import slim
from tests.docs.test_project import PINS, PROJECT, ROOT

PACKAGES = Path(sysconfig.get_path("purelib"))
# What httpx and others use where it is; what a virtual environment loads itself; the project, where it is installed.
NEVER_MISSED = {"brotli", "pygments", "rich", "setuptools", "penumbra"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_everything_that_is_copied_is_sent() -> None:
    """.dockerignore lets through what the Dockerfile copies."""
    copied = {
        source for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    }
    sent = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert {source.rstrip("/") for source in copied} <= sent | {
        f"deploy/image/{name}.py" for name in ("slim", "requirements")
    }
    for source in copied:
        assert (ROOT / source).exists()


def test_commands_have_no_shell() -> None:
    """Signals reach the service itself."""
    for instruction in ("ENTRYPOINT", "CMD"):
        (found,) = re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)
        assert isinstance(json.loads(found), list)


def required(extras: str) -> list[str]:
    """What an image with these extras installs, line by line."""
    command = [sys.executable, "deploy/image/requirements.py", "pyproject.toml", extras]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def test_it_installs_what_serving_needs() -> None:
    """Named in pyproject.toml, at the versions of constraints.txt."""
    project, extras = PROJECT["project"], PROJECT["project"]["optional-dependencies"]
    assert required("redis,jobs") == project["dependencies"] + extras["serve"] + extras["redis"] + extras["jobs"]
    assert required("") == project["dependencies"] + extras["serve"]
    assert f"torch=={PINS['torch']}" in required("")


def test_an_extra_that_is_none() -> None:
    """It ends the build, in a line."""
    with pytest.raises(subprocess.CalledProcessError) as told:
        required("redis,canary")
    assert told.value.stderr.startswith("there is no extra canary; there are: serve, ")


@pytest.mark.parametrize(
    ("extras", "modules", "least"),
    [
        ("redis", ["service.serving"], {"torch", "fastapi"}),
        (
            "redis,jobs",
            ["service.serving", "service.api.jobs", "service.durable.runner"],
            {"torch", "httpx", "dbos", "sqlalchemy", "psycopg"},
        ),
    ],
)
def test_what_is_loaded_is_installed(extras: str, modules: list[str], least: set[str]) -> None:
    """Whatever serving and working on jobs import is named, or needed by what is named."""
    program = f"import json, sys, {', '.join(modules)}\n"
    program += "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    listed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    owners = metadata.packages_distributions()
    # Some names are shared by several distributions.
    loaded = {name: set(map(canonicalize_name, owners[name])) for name in json.loads(listed) if name in owners}
    assert least <= loaded.keys()
    known = needed_by([Requirement(line) for line in required(extras)]) | NEVER_MISSED
    assert [name for name, found in loaded.items() if not found & known] == []


def needed_by(requirements: list[Requirement]) -> set[str]:
    """The names of these distributions, and of all that they need."""
    found: set[str] = set()
    seen: set[str] = set()
    while requirements:
        one = requirements.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        found.add(canonicalize_name(one.name))
        with suppress(metadata.PackageNotFoundError):
            for line in metadata.requires(one.name) or []:
                needed = Requirement(line)
                marker = needed.marker
                if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                    requirements.append(needed)
    return found


def test_what_is_removed_is_there_and_not_needed() -> None:
    """Each pattern fits this environment, and the service imports nothing that any of them fits."""
    needed = {PACKAGES / name for name in slim.NEEDED}
    unused = {path for pattern in slim.UNUSED for path in PACKAGES.glob(pattern)} - needed
    assert all(any(PACKAGES.glob(pattern)) for pattern in slim.UNUSED)
    assert all(path.exists() for path in needed)
    program = "import json, sys, service.serving\n"
    program += "print(json.dumps([getattr(module, '__file__', None) for module in sys.modules.values()]))"
    listed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    loaded = {Path(file) for file in json.loads(listed) if file}
    # Virtual environments themselves load setuptools' hook.
    assert not {path for path in loaded if unused & {path, *path.parents} and "_distutils_hack" not in path.parts}


def test_a_list_that_went_stale_is_an_error(tmp_path: Path) -> None:
    """Where a pattern fits nothing, nothing is removed."""
    with pytest.raises(FileNotFoundError, match="torch/bin"):
        slim.slim(tmp_path)


@pytest.mark.skipif(shutil.which("strip") is None, reason="there is no strip here")
def test_slimming_removes_and_keeps(tmp_path: Path) -> None:
    """What is unused goes, also folders; what is needed beside it stays, and libraries lose their symbols."""
    for pattern in slim.UNUSED:
        path = tmp_path / pattern.replace("**/", "").replace("*", "x")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    library = next(path for path in (PACKAGES / "torch" / "lib").glob("libtorch.so"))
    for name in (*slim.NEEDED, "torch/nn.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in slim.STRIPPED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, tmp_path / name)
    slim.slim(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*slim.NEEDED, *slim.STRIPPED, "torch/nn.py"}


def test_the_bill_of_materials_is_valid(tmp_path: Path) -> None:
    """What `make sbom` calls makes CycloneDX of an environment that its own validator accepts."""
    written = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", "pyproject.toml"]
    command += ["--output-reproducible", "--validate", "-o", str(written), sys.executable]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    bill = json.loads(written.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "penumbra"
    versions = {component["name"].lower(): component["version"] for component in bill["components"]}
    assert versions["torch"].split("+")[0] == PINS["torch"]
    assert versions["numpy"] == PINS["numpy"]
    for line in ("cyclonedx-py environment", "--validate", "--output-reproducible"):
        assert line in (ROOT / "Makefile").read_text()
