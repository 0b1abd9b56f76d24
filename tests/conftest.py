"""Fixtures that all tests share: the real service over real sockets."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
import torch

from service.settings import SHIPPED_STORE
from tests.api.live import Server
from tests.api.stores import publish_all
from tests.objects import ObjectServer, object_server

# Tests never measure time, and a test that fails must fail again.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None)
hypothesis.settings.load_profile("house")
# Tests run side by side on all cores: one that took two would make another wait, and itself for that one.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service and its own copy of the shipped models, for the whole session.

    Settings are the defaults, but that every answer is computed: one that was kept would prove nothing about how it
    comes about. Stopped with SIGTERM, after which it must have ended with exit code 0.
    """
    store = tmp_path_factory.mktemp("server") / "store"
    shutil.copytree(SHIPPED_STORE, store)
    running = Server(store=store, answer_cache_bytes=0)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of tiny models, see `stores`; not to be written to."""
    store = tmp_path_factory.mktemp("tiny")
    publish_all(store)
    return store


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts services with settings of one's own: `start_server(store=…, workers=2).client.get(…)`.

    Each has the shipped models unless it is given a store; all are stopped when the test ends.
    """
    with ExitStack() as started:

        def start(**settings: object) -> Server:
            running = Server(**settings)
            started.callback(running.stop)
            return running

        yield start


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """An S3 server for the whole session; not to be killed."""
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def own_s3(tmp_path: Path) -> Iterator[ObjectServer]:
    """An S3 server for one test, which may kill it and start it again."""
    (folder := tmp_path / "own s3").mkdir()
    with object_server(folder) as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    (disk := tmp_path / "disk").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture(scope="session")
def kserve_python() -> Path:
    """Python with the KServe SDK, in an environment below this one's, which is made if it isn't there."""
    pins = Path(__file__).parent / "conformance" / "kserve.txt"
    home = Path(sys.prefix) / "kserve"
    stamp, wanted = home / "penumbra.stamp", hashlib.sha256(pins.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(home / "bin" / "pip"), "--disable-pip-version-check", "--quiet", "install", "-r", str(pins)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                pytest.skip(f"the KServe SDK can't be installed: {last}")
        stamp.write_text(wanted)
    return home / "bin" / "python"
