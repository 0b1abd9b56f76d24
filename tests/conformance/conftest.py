"""Servers for clients of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.live import Server
from tests.api.stores import publish_all


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the tiny models."""
    store = tmp_path_factory.mktemp("protocol")
    publish_all(store)
    running = Server(store=store)
    yield running
    running.stop()
