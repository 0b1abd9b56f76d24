"""The one loop in the background: it survives what goes wrong, and says so once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from service import looking
from service.errors import Unavailable
from service.looking import every


class Over(BaseException):
    """Nothing is left to look at: the test is over."""


def telling(*outcomes: Exception | None) -> Callable[[], None]:
    """What to look at: fails, or not, as it is told, and ends the loop after that."""
    left: Iterator[Exception | None] = iter(outcomes)

    def look() -> None:
        for outcome in left:
            if outcome is not None:
                raise outcome
            return
        raise Over

    return look


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the loop would have slept, each time."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(looking.asyncio, "sleep", sleep)
    return slept


async def looked(look: Callable[[], Any], **options: Any) -> None:
    """Looks to the end."""
    with suppress(Over):
        await every(0.5, "looking", look, **options)


async def test_what_goes_wrong_is_told_when_it_changes(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """Once for each kind in a row, again when another comes between, and when all is well again."""
    caplog.set_level("INFO")
    files, memory, store = OSError(24, "Too many open files"), MemoryError(), Unavailable("the store is away")
    await looked(telling(None, files, files, memory, files, store, store, None, None, store))
    assert [record.message for record in caplog.records] == [
        "looking failed: [Errno 24] Too many open files; still trying",
        "looking failed: MemoryError; still trying",
        "looking failed: [Errno 24] Too many open files; still trying",
        "looking failed: the store is away; still trying",
        "looking works again",
        "looking failed: the store is away; still trying",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [False, True, False, False, False, False]


async def test_it_backs_off_while_it_is_told_to(pauses: list[float]) -> None:
    """Twice as long after each failure, up to the longest; as ever after a success. Without a longest, as ever."""
    failures = [MemoryError()] * 5
    await looked(telling(*failures, None, *failures[:2]), longest=6.0)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 6.0, 6.0, 0.5, 1.0, 2.0]
    pauses.clear()
    await looked(telling(*failures), at_once=True)
    assert pauses == [0.5] * 5


async def test_what_is_looked_at_may_be_awaited() -> None:
    """And is cancelled with the loop."""
    begun, never = asyncio.Event(), asyncio.Event()

    async def look() -> None:
        begun.set()
        await never.wait()

    task = asyncio.create_task(every(60.0, "looking", look, at_once=True))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
