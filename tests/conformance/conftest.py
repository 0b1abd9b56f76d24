"""Servers for clients of the Open Inference Protocol, and the environment of the one client that needs its own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import Server
from tests.api.stores import publish_all

HERE = Path(__file__).parent
PINS = HERE / "kserve.txt"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the tiny models."""
    store = tmp_path_factory.mktemp("protocol")
    publish_all(store)
    running = Server(store=store)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def kserve_python() -> Path:
    """Python with the KServe SDK, in an environment below this one's, which is made if it isn't there."""
    home = Path(sys.prefix) / "kserve"
    stamp, wanted = home / "penumbra.stamp", hashlib.sha256(PINS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(home / "bin" / "pip"), "--disable-pip-version-check", "--quiet", "install", "-r", str(PINS)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                pytest.skip(f"the KServe SDK can't be installed: {last}")
        stamp.write_text(wanted)
    return home / "bin" / "python"
