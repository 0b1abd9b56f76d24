"""What lives as long as the application is closed in any case."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.memory import Reading
from tests.api.inside import running


def failing(_: int) -> Callable[[], Reading]:
    """Memory can't be looked at, which is the last thing that is done before anything is answered."""

    def read() -> Reading:
        raise OSError(24, "Too many open files")

    return read


async def test_where_opening_fails_what_was_opened_is_closed(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No task and no engine thread is left behind, and the failure is told as it is."""
    before = {thread for thread in threading.enumerate() if "AnyIO" not in thread.name}
    monkeypatch.setattr("service.lifetime.reader", failing)
    with pytest.raises(OSError, match="Too many open files"):
        async with running(store=tiny_store):
            pass
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert {thread for thread in threading.enumerate() if "AnyIO" not in thread.name} == before
