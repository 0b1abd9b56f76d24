"""What the tests of the HTTP API share beyond the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import Server


@pytest.fixture(scope="session")
def tiny(tiny_store: Path) -> Iterator[Server]:
    """A server of the tiny models."""
    running = Server(store=tiny_store)
    yield running
    running.stop()


@pytest.fixture
def servers(server: Server, tiny: Server) -> dict[str, Server]:
    """Who serves which model."""
    return {
        **dict.fromkeys(("diabetes", "breast-cancer", "digits"), server),
        **dict.fromkeys(("silent", "noisy", "headed", "colours"), tiny),
    }
