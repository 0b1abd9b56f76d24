"""Equal questions at once: computed for the first, told to all, each with its own patience; whoever leaves, leaves."""

from __future__ import annotations

import asyncio

import pytest

from service.batching import Timings
from service.caching.answers import Answers, Told
from service.caching.memory import Memory, Written
from service.errors import CallerGone, DeadlineExceeded, PenumbraError
from tests.api.test_queue import HandClock

KEY = b'"key"'


class Desk:
    """Computes when the test says so, as a queue does: late, it refuses; with nobody there, it gives up."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.answers = Answers(Memory(2**20), clock=self.clock)
        self.computed = 0
        self.may_begin = asyncio.Event()
        self.may_end = asyncio.Event()
        self.fails: Exception | None = None

    def ask(self, patience: float = 60.0, gone: bool = False) -> asyncio.Task[Told]:
        """Asks what everybody asks."""

        async def compute(patience: float, gone: object) -> tuple[Written, Timings]:
            assert callable(gone)
            arrived = self.clock.now
            await self.may_begin.wait()
            if gone():
                raise CallerGone("nobody waits")
            if self.clock.now > arrived + patience:
                raise DeadlineExceeded
            began = self.clock.now
            await self.may_end.wait()
            self.computed += 1
            if self.fails is not None:
                raise self.fails
            return Written(b"body"), Timings(began - arrived, self.clock.now - began)

        return asyncio.create_task(self.answers.get(KEY, patience, lambda: gone, compute, lambda: 1.0, dear=True))

    async def settle(self) -> None:
        """Lets everybody come as far as they can."""
        for _ in range(10):
            await asyncio.sleep(0)


async def outcomes(tasks: list[asyncio.Task[Told]]) -> list[str]:
    """How each ended: with which outcome, or which error."""
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [str(one.outcome) if isinstance(one, Told) else type(one).__name__ for one in ended]


async def test_equal_questions_are_computed_once() -> None:
    """64 at once are one computing, and all have its body; who comes later has it at once."""
    desk = Desk()
    tasks = [desk.ask() for _ in range(64)]
    await desk.settle()
    desk.may_begin.set()
    desk.may_end.set()
    assert await outcomes(tasks) == ["miss"] + ["joined"] * 63
    assert {task.result().written for task in tasks} == {Written(b"body")}
    assert desk.computed == 1
    assert (await desk.ask()).outcome == "hit"
    assert desk.answers._flights == {}


async def test_each_is_told_how_long_it_waited_itself() -> None:
    """Who joins later has waited less."""
    desk = Desk()
    first = desk.ask()
    await desk.settle()
    desk.clock.now += 3.0
    second = desk.ask()
    await desk.settle()
    desk.clock.now += 1.0
    desk.may_begin.set()
    await desk.settle()
    desk.clock.now += 5.0
    third = desk.ask()
    await desk.settle()
    desk.clock.now += 2.0
    desk.may_end.set()
    assert (await first).timings == Timings(4.0, 7.0)
    assert (await second).timings == Timings(1.0, 7.0)
    assert (await third).timings == Timings(0.0, 2.0)


async def test_computing_goes_on_while_anybody_waits() -> None:
    """The first has hung up and the others have not; then nobody is left."""
    desk = Desk()
    tasks = [desk.ask(gone=True), desk.ask()]
    await desk.settle()
    desk.may_begin.set()
    desk.may_end.set()
    assert await outcomes(tasks) == ["miss", "joined"]
    other = Desk()
    tasks = [other.ask(gone=True), other.ask(gone=True)]
    await other.settle()
    other.may_begin.set()
    assert await outcomes(tasks) == ["CallerGone", "CallerGone"]
    assert other.computed == 0


async def test_a_first_that_is_cancelled_leaves_the_work_to_the_next() -> None:
    """The others ask again, one of them computes; and one of them that is cancelled is missed by nobody."""
    desk = Desk()
    tasks = [desk.ask() for _ in range(4)]
    await desk.settle()
    tasks[0].cancel()
    tasks[2].cancel()
    await desk.settle()
    desk.may_begin.set()
    desk.may_end.set()
    assert await outcomes(tasks) == ["CancelledError", "miss", "CancelledError", "joined"]
    assert desk.computed == 1


async def test_each_ones_deadline_is_its_own() -> None:
    """A patient one is answered though the hurried first was not; a hurried one is late though the first was not."""
    desk = Desk()
    tasks = [desk.ask(1.0), desk.ask(50.0), desk.ask(0.5), desk.ask(50.0)]
    await desk.settle()
    desk.clock.now += 2.0
    desk.may_begin.set()
    await desk.settle()
    desk.may_end.set()
    assert await outcomes(tasks) == ["DeadlineExceeded", "miss", "DeadlineExceeded", "joined"]
    assert desk.computed == 1
    other = Desk()
    tasks = [other.ask(50.0), other.ask(1.0), other.ask(50.0)]
    await other.settle()
    other.clock.now += 2.0
    other.may_begin.set()
    other.may_end.set()
    assert await outcomes(tasks) == ["miss", "DeadlineExceeded", "joined"]


async def test_who_joins_after_it_began_is_not_late() -> None:
    """What has begun is finished, however long it takes."""
    desk = Desk()
    first = desk.ask()
    desk.may_begin.set()
    await desk.settle()
    hurried = desk.ask(0.5)
    await desk.settle()
    desk.clock.now += 100.0
    desk.may_end.set()
    assert await outcomes([first, hurried]) == ["miss", "joined"]


async def test_what_is_wrong_with_the_question_is_told_to_all_and_not_kept() -> None:
    """Everybody gets the error, once computed; the next one asks anew."""
    desk = Desk()
    desk.fails = PenumbraError("canary")
    tasks = [desk.ask() for _ in range(3)]
    await desk.settle()
    desk.may_begin.set()
    desk.may_end.set()
    assert await outcomes(tasks) == ["PenumbraError"] * 3
    assert desk.computed == 1
    desk.fails = None
    assert (await desk.ask()).outcome == "miss"


@pytest.mark.parametrize("count", [1, 2])
async def test_nothing_is_left_of_a_flight(count: int) -> None:
    """After an error as after an answer."""
    desk = Desk()
    desk.fails = PenumbraError("canary")
    tasks = [desk.ask() for _ in range(count)]
    desk.may_begin.set()
    desk.may_end.set()
    await outcomes(tasks)
    assert desk.answers._flights == {}
