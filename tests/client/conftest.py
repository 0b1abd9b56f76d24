"""What the client's tests share: both faces, and servers that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from penumbra import Patience
from tests.api.live import Server
from tests.client.faces import FACES
from tests.client.rude import Rude


@pytest.fixture(params=FACES, ids=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Any:
    """Client, and then AsyncClient behind the same methods."""
    return request.param


@pytest.fixture
def rude() -> Iterator[Callable[..., Rude]]:
    """Starts servers that misbehave: `rude(script, …).url`."""
    with ExitStack() as started:

        def start(*scripts: Any) -> Rude:
            server = Rude(*scripts)
            started.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="session")
def tiny(tiny_store: Path) -> Iterator[Server]:
    """A server of the tiny models."""
    running = Server(store=tiny_store)
    yield running
    running.stop()


@pytest.fixture
def quick() -> Callable[..., Patience]:
    """Patience that pauses for nothing: `quick(retries=1)`."""

    def make(**options: Any) -> Patience:
        return Patience(**{"first_pause": 0.0, "timeout": 30.0, **options})

    return make
