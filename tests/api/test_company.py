"""Small requests on the event loop: company, isolation, deadlines; callers who hang up; admission by work."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from service.batching import COMPANY_SECONDS, Batcher
from service.engine.evaluation import Piece
from service.errors import CallerGone, DeadlineExceeded, QueueFull
from service.inference import Inference
from tests.api.test_queue import HANG, PATH, HandClock, Work, held_queue, held_service
from tests.api.wire import TINY_ROWS


class Small:
    """A job for the event loop: each evaluation notes who was in it."""

    failure: Exception | None = None

    def __init__(self, name: str, company: Any = "shared", seconds: float = 1e-5, failing: str = "") -> None:
        self.name, self.company, self.seconds, self.failing = name, company, seconds, failing
        self.evaluations: list[list[str]] = []

    def stages(self, company: Sequence[Small], threads: int) -> Iterator[Sequence[Piece]]:
        """See `batching.Job`."""
        assert threads == 1
        names = [job.name for job in company]
        yield [lambda _: None]
        for job in company:
            if job.failing == "raises":
                raise ArithmeticError(job.name)
            if job.failing == "says so":
                job.failure = ArithmeticError(job.name)
        for job in company:
            job.evaluations.append(names)


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    """A queue whose clock stands still."""
    made = Batcher(threads=1, max_queue=100, clock=HandClock())
    yield made
    made.close()


async def run(batcher: Batcher, *jobs: Small) -> list[Any]:
    """All jobs at once, as requests that arrive together; failures are returned."""
    return await asyncio.gather(*(batcher.run(job, HANG) for job in jobs), return_exceptions=True)


async def test_what_arrives_together_is_evaluated_together(batcher: Batcher) -> None:
    """Jobs with equal keys share an evaluation, others and those without a key don't."""
    jobs = [Small("a"), Small("b", "other"), Small("c"), Small("d", None), Small("e", None), Small("f", "other")]
    await run(batcher, *jobs)
    assert [job.evaluations for job in jobs] == [
        [["a", "c"]],
        [["b", "f"]],
        [["a", "c"]],
        [["d"]],
        [["e"]],
        [["b", "f"]],
    ]
    assert (batcher.computed, batcher.companies) == (6, 4)


async def test_a_lone_request_does_not_wait_for_company(batcher: Batcher) -> None:
    """It is answered after two turns of the event loop, and there is no timer that could make it wait."""
    task = asyncio.ensure_future(batcher.run(Small("alone"), HANG))
    for _ in range(4):
        await asyncio.sleep(0)
    assert task.done()


async def test_company_is_bounded_in_work(batcher: Batcher) -> None:
    """What exceeds a few milliseconds waits until the event loop has looked at its connections again."""
    jobs = [Small(str(i), seconds=COMPANY_SECONDS / 4) for i in range(10)]
    await run(batcher, *jobs)
    assert [len(job.evaluations[0]) for job in jobs] == [4] * 8 + [2] * 2


async def test_one_bad_job_does_not_fail_its_company(batcher: Batcher) -> None:
    """Whether it raises or is found wanting, the others get their answers."""
    jobs = [Small("a"), Small("raises", failing="raises"), Small("c"), Small("says so", failing="says so")]
    outcomes = await run(batcher, *jobs)
    assert [isinstance(outcome, ArithmeticError) for outcome in outcomes] == [False, True, False, True]
    assert jobs[0].evaluations == [["a"]]
    assert batcher.computed == 2


class Nameless(Small):
    """A job of which nobody knows whom it can share an evaluation with."""

    @property
    def company(self) -> Any:
        """Not told."""
        raise LookupError(self.name)

    @company.setter
    def company(self, _: Any) -> None:
        pass


async def test_a_job_that_cannot_be_placed_fails_alone(batcher: Batcher) -> None:
    """Those who came with it, and those who come later, are answered."""
    async with asyncio.timeout(HANG):
        outcomes = await run(batcher, Small("before"), Nameless("nameless"), Small("after"))
        assert [isinstance(outcome, LookupError) for outcome in outcomes] == [False, True, False]
        await batcher.run(Small("later"), HANG)
    assert (batcher.computed, batcher.admitted) == (3, 0)


async def test_a_mistake_of_the_observer_is_nobodys_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Small and large requests are answered all the same, and it is in the log."""

    def observe(*_: object) -> None:
        raise ZeroDivisionError

    batcher = Batcher(threads=1, max_queue=9, observe=observe)
    async with asyncio.timeout(HANG):
        await batcher.run(Small("first"), HANG)
        await batcher.run(Work(), HANG)
        await batcher.run(Small("second"), HANG)
    assert (batcher.computed, batcher.admitted) == (3, 0)
    assert [record.message for record in caplog.records] == ["an evaluation was not observed; please report this"] * 3
    await asyncio.to_thread(batcher.close)


async def test_a_caller_whom_nobody_can_look_for_fails_alone() -> None:
    """Callers who hung up are still looked for afterwards."""

    def lost() -> bool:
        raise ConnectionError

    async with held_queue() as queue, asyncio.timeout(HANG):
        with pytest.raises(ConnectionError):
            await (await queue.put(Work(), gone=lost))
        with pytest.raises(CallerGone):
            await (await queue.put(Work(), gone=lambda: True))


async def test_a_small_request_that_is_late_is_not_computed() -> None:
    """The deadline is looked at when the evaluation begins."""
    clock = HandClock()
    batcher = Batcher(threads=1, max_queue=100, clock=clock)
    late, patient = Small("late"), Small("patient")
    tasks = [asyncio.ensure_future(batcher.run(job, patience)) for job, patience in ((late, 1.0), (patient, 3.0))]
    await asyncio.sleep(0)
    clock.now += 2.0
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], DeadlineExceeded)
    assert (late.evaluations, patient.evaluations) == ([], [["patient"]])
    assert (batcher.computed, batcher.expired) == (1, 1)
    await asyncio.to_thread(batcher.close)


async def test_a_caller_who_hung_up_is_not_computed_for() -> None:
    """Who is gone while in line is taken out of it, and there is room for another; who is not, is served."""
    async with held_queue(max_queue=3) as queue:
        left, stays = Work(), Work()
        gone = await queue.put(left, gone=lambda: True)
        here = await queue.put(stays)
        with pytest.raises(CallerGone):
            await gone
        following = await queue.put(Work())
        queue.holder.go.set()
        await asyncio.gather(here, following)
        assert left.done == []
        assert (queue.batcher.computed, queue.batcher.abandoned) == (3, 1)


async def test_work_is_admitted_by_its_size() -> None:
    """Rows × samples × network count, not requests; the refusal says when to come again."""
    async with held_queue(max_seconds=10.0) as queue:  # one second of them is held
        await queue.put(Work(seconds=8.0))
        with pytest.raises(QueueFull) as refused:
            await queue.batcher.run(Work(seconds=1.5), HANG)
        assert refused.value.retry_after == 9
        small = await queue.put(Work(seconds=0.5))
        queue.holder.go.set()
        await small
        assert (queue.batcher.computed, queue.batcher.refused) == (3, 1)


async def test_a_request_larger_than_the_queue_is_served_alone() -> None:
    """With nothing else admitted any request is: the limits on one request are others."""
    batcher = Batcher(threads=1, max_queue=5, max_seconds=1.0)
    await batcher.run(Work(seconds=1000.0), HANG)
    assert batcher.computed == 1
    await asyncio.to_thread(batcher.close)


async def test_clients_that_disconnect_are_dropped_from_the_queue(tiny_store: Path) -> None:
    """Fifty sockets closed while their requests wait behind another one: none of them is computed."""
    async with held_service(tiny_store) as (queue, app, client):
        server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="critical"))
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0)
        port = server.servers[0].sockets[0].getsockname()[1]
        body = b'{"inputs": %s}' % str(TINY_ROWS).encode()
        request = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
            PATH.encode(),
            len(body),
            body,
        )
        stays = asyncio.create_task(client.post(PATH, json={"inputs": TINY_ROWS}))
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        for each in sockets:
            each.sendall(request)
        inference: Inference = app.state.inference
        batcher = inference._batcher
        while len(batcher._admitted) < 52:  # noqa: ASYNC110 - the requests arrive through the kernel
            await asyncio.sleep(0)
        for each in sockets:
            with closing(each):
                pass
        while batcher.abandoned < 50:  # noqa: ASYNC110 - the sweep comes by itself
            await asyncio.sleep(0)
        assert len(batcher._admitted) == 2
        queue.holder.go.set()
        assert (await stays).status_code == 200
        assert batcher.computed == 2
        server.should_exit = True
        await serving
