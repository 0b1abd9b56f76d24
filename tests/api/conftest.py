"""What the tests of the HTTP API share beyond the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import Server
from tests.api.stores import publish_all


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of tiny models, see `stores`; not to be written to."""
    store = tmp_path_factory.mktemp("tiny")
    publish_all(store)
    return store


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
