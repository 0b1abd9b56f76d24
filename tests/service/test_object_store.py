"""A service whose models lie in a real object store: publishing, an outage, damage, and credentials that don't fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import obstore
import pytest

from models.mirror import open_store
from models.repository import Repository
from tests.api.live import ROOT, Server
from tests.api.stores import version_of
from tests.api.wire import TINY_ROWS
from tests.objects import BUCKET, ObjectServer, told
from tests.service.test_serving import workers_of

URL = f"s3://{BUCKET}/service"
Start = Callable[..., Server]


@pytest.fixture
def publisher(own_s3: ObjectServer, tmp_path: Path) -> Iterator[Repository]:
    """Somebody else, who publishes there; the service inherits what is known of the object store."""
    with told(own_s3.environment):
        yield open_store(URL, tmp_path / "publisher")


def entry(server: Server) -> dict[str, object]:
    """What a worker says of the only model, over a connection of its own."""
    with suppress(httpx.TransportError), httpx.Client(base_url=server.url) as client:
        return client.get("/v1/models").json()["models"][0]
    return {}


def until(server: Server, **expected: object) -> None:
    """Waits until several answers in a row have this in them."""
    agreed = 0
    while agreed < 10:
        told_now = entry(server)
        agreed = agreed + 1 if {key: told_now.get(key) for key in expected} == expected else 0


@pytest.mark.slow
def test_an_object_store_is_served_watched_and_done_without(
    own_s3: ObjectServer, publisher: Repository, start_server: Start, tmp_path: Path
) -> None:
    """New versions take over; damage is told; while it is away what is served stays, in new workers, too."""
    publisher.publish(*version_of("model", "1"))
    server = start_server(store=URL, cache=tmp_path / "cache", workers=2, threads=1, watch_seconds=0.1)
    assert entry(server)["version"] == "1"
    supervisor = server._process.pid
    assert len(list(Path(f"/proc/{supervisor}/task").iterdir())) == 1, "what reads object stores starts threads"
    publisher.publish(*version_of("model", "2"))
    until(server, version="2", versions=["1", "2"])
    manifest, weights = version_of("model", "3")
    half = own_s3.client("service")
    obstore.put(half, "model/3/weights.safetensors", weights[:-1])
    obstore.put(half, "model/3/manifest.json", manifest.model_dump_json().encode())
    reason = "weights.safetensors is not the file that the manifest was made for"
    until(server, version="2", failed=[{"version": "3", "reason": reason}])
    publisher.refresh()
    publisher.pin("model", "1")
    until(server, version="1", pinned="1")
    publisher.pin("model", None)
    until(server, version="2", pinned=None)

    own_s3.kill()
    while "what is served stays" not in server.output:
        server.client.get("/health/live")
    killed = workers_of(server)[0]
    os.kill(killed, signal.SIGKILL)
    while killed in workers_of(server) or len(workers_of(server)) < 2:
        entry(server)
    until(server, version="2")
    with httpx.Client(base_url=server.url) as client:
        assert client.post("/v1/models/model/predict", json={"inputs": TINY_ROWS}).status_code == 200
        assert client.get("/health/ready").status_code == 200
        refused = client.post("/v2/repository/models/model/load")
        assert refused.status_code == 503
        assert refused.json()["error"].startswith(f"the store can't be read: {URL}: ")

    own_s3.start()
    obstore.put(half, "model/3/weights.safetensors", weights)
    until(server, version="3", failed=None)
    server.stop()
    assert server.output.count("what is served stays") <= 4, "told once for each worker that looked, and cause"


@pytest.mark.slow
def test_it_starts_from_the_mirror_while_the_object_store_is_away(
    own_s3: ObjectServer, publisher: Repository, start_server: Start, tmp_path: Path
) -> None:
    """What was mirrored is served; and SIGHUP, which needs the object store, changes nothing."""
    publisher.publish(*version_of("model", "1"))
    settings = {"store": URL, "cache": tmp_path / "cache", "workers": 2, "threads": 1, "watch_seconds": 0}
    start_server(**settings).stop()
    own_s3.kill()
    server = start_server(**settings)
    assert entry(server)["version"] == "1"
    assert "what was mirrored before is served" in server.output
    server._process.send_signal(signal.SIGHUP)
    while "the store could not be read again" not in server.output:
        entry(server)
    until(server, version="1")


def test_a_full_disk_under_the_mirror(
    own_s3: ObjectServer, publisher: Repository, start_server: Start, small_disk: Path
) -> None:
    """What is served stays, and that is told; when there is room again, what is new is served."""
    publisher.publish(*version_of("model", "1"))
    server = start_server(store=URL, cache=small_disk, workers=2, threads=1, watch_seconds=0.1)
    with suppress(OSError), (small_disk / "full").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    publisher.publish(*version_of("model", "2"))
    while "No space left on device; what is served stays" not in server.output:
        entry(server)
    until(server, version="1")
    assert server.client.post("/v1/models/model/predict", json={"inputs": TINY_ROWS}).status_code == 200
    assert server.client.get("/health/ready").status_code == 200
    (small_disk / "full").unlink()
    until(server, version="2")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_can_not_be_read_at_the_start_is_told(tmp_path: Path, workers: int) -> None:
    """In one line, without credentials; nothing is served."""
    environment = {"AWS_ACCESS_KEY_ID": "canary", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_REGION": "us-east-1"}
    environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    arguments = ("--store", URL, "--cache", str(tmp_path), "--workers", str(workers), "--port", "0")
    ended = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={**environment, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"python -m service: error: --store (or PENUMBRA_STORE): {URL}: ")
    assert ended.stderr.count("\n") == 1
    assert "canary" not in ended.stderr
