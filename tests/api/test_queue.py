"""Admission, deadlines and isolation, with a clock that the test moves and an engine thread that it holds."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from models.repository import Repository
from service import batching
from service.batching import Batcher, Timings
from service.catalogue import Catalogue
from service.engine.evaluation import Piece
from service.engine.workspace import Workspace
from service.errors import CallerGone, DeadlineExceeded, QueueFull, ShuttingDown
from service.inference import Inference
from service.served import Loader
from tests.api.inside import running
from tests.api.wire import TINY_ROWS, assert_problem

HANG = 60.0  # seconds after which a test that waits for a thread gives up
PATH = "/v1/models/silent/predict"
BODY = {"inputs": TINY_ROWS}


class HandClock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Work:
    """A job for the engine threads: each piece notes its name, and those that were told to fail or to wait do so."""

    company = failure = None

    def __init__(self, *stages: Sequence[str], failing: str = "", held: str = "", seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.done: list[str] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self._stages, self._failing, self._held = stages or (["only"],), failing, held

    def stages(self, company: Sequence[Work], threads: int) -> Iterator[list[Piece]]:
        """See `batching.Job`."""
        assert (list(company), threads) == ([self], 1)
        for stage in self._stages:
            yield [self._piece(name) for name in stage]

    def _piece(self, name: str) -> Piece:
        def piece(_: Workspace) -> None:
            if name == self._held:
                self.begun.set()
                assert self.go.wait(HANG)
            if name == self._failing:
                raise ArithmeticError(name)
            self.done.append(name)

        return piece


class Queue:
    """A batcher whose one thread is held by a first request until the test lets it go."""

    def __init__(self, max_queue: int = 1024, max_seconds: float = 1e6) -> None:
        self.clock = HandClock()
        self.batcher = Batcher(threads=1, max_queue=max_queue, max_seconds=max_seconds, clock=self.clock)
        self.holder = Work(held="only")
        self._tasks: list[asyncio.Task[Timings]] = []

    async def hold(self) -> None:
        """Returns when the thread is held."""
        await self.put(self.holder)
        assert await asyncio.to_thread(self.holder.begun.wait, HANG)

    async def put(
        self, work: Work, patience: float = HANG, gone: Callable[[], bool] = lambda: False
    ) -> asyncio.Task[Timings]:
        """Returns when the request is in the queue."""
        task = asyncio.create_task(self.batcher.run(work, patience, gone))
        self._tasks.append(task)
        await asyncio.sleep(0)  # a task runs up to where it waits
        return task

    async def end(self) -> None:
        """Lets everything finish."""
        self.holder.go.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.batcher.close)


@asynccontextmanager
async def held_queue(max_queue: int = 1024, max_seconds: float = 1e6) -> AsyncIterator[Queue]:
    """A queue whose thread is held."""
    queue = Queue(max_queue, max_seconds)
    await queue.hold()
    try:
        yield queue
    finally:
        await queue.end()


@asynccontextmanager
async def held_service(store: Path, max_queue: int = 1024) -> AsyncIterator[tuple[Queue, FastAPI, httpx.AsyncClient]]:
    """The service with such a queue in place of its own, through whose thread all requests go, and a client of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "SMALL_SECONDS", -1.0)
        async with _held_service(store, max_queue) as held:
            yield held


@asynccontextmanager
async def _held_service(store: Path, max_queue: int) -> AsyncIterator[tuple[Queue, FastAPI, httpx.AsyncClient]]:
    async with running(store=store) as (app, client), held_queue(max_queue) as queue:
        repository = Repository(store)
        app.state.inference = Inference(Catalogue(repository, Loader(repository)), queue.batcher)
        yield queue, app, client


async def test_a_full_queue_refuses_at_once() -> None:
    """With `max_queue` requests admitted, running ones included, the next is refused until a place is free again."""
    async with held_queue(max_queue=2) as queue:
        waiting = await queue.put(Work())
        with pytest.raises(QueueFull):
            await queue.batcher.run(Work(), HANG)
        queue.holder.go.set()
        await waiting
        await queue.batcher.run(Work(), HANG)
        assert queue.batcher.computed == 3


async def test_what_has_begun_is_not_refused() -> None:
    """A job that continues another waits its turn in a full queue; without its caller it is not even put in line."""
    async with held_queue(max_queue=1) as queue:
        following = asyncio.create_task(queue.batcher.run(Work(), HANG, begun=True))
        abandoned = Work()
        with pytest.raises(CallerGone):
            await queue.batcher.run(abandoned, HANG, lambda: True, begun=True)
        queue.holder.go.set()
        await following
        assert abandoned.done == []
        assert (queue.batcher.computed, queue.batcher.refused, queue.batcher.abandoned) == (2, 0, 1)


async def test_a_full_queue_is_503_with_retry_after(tiny_store: Path) -> None:
    """Over HTTP the caller is told to come back later, nothing is computed, and once there is room it is served."""
    async with held_service(tiny_store, max_queue=1) as (queue, _, client):
        refused = await client.post(PATH, json=BODY)
        assert assert_problem(refused, 503)["type"] == "urn:penumbra:problem:queue-full"
        assert int(refused.headers["retry-after"]) >= 1
        queue.holder.go.set()
        await asyncio.gather(*queue._tasks)
        assert queue.batcher.computed == 1
        assert (await client.post(PATH, json=BODY)).status_code == 200


async def test_a_deadline_that_passes_in_the_queue_is_never_computed() -> None:
    """When its turn comes too late a request fails without a piece having run, and the one behind it is served."""
    async with held_queue() as queue:
        late, patient = Work(), Work()
        hurried = await queue.put(late, patience=5.0)
        other = await queue.put(patient, patience=50.0)
        queue.clock.now += 5.001
        queue.holder.go.set()
        with pytest.raises(DeadlineExceeded):
            await hurried
        await other
        assert late.done == []
        assert patient.done == ["only"]
        assert (queue.batcher.computed, queue.batcher.expired) == (2, 1)


async def test_who_is_late_is_told_before_its_turn_comes() -> None:
    """Behind others, however long they go on, a late request is told within a sweep, and its place is free again."""
    async with held_queue(max_queue=2) as queue, asyncio.timeout(HANG):
        late, following = Work(), Work()
        hurried = await queue.put(late, patience=5.0)
        queue.clock.now += 5.001
        with pytest.raises(DeadlineExceeded):
            await hurried
        patient = await queue.put(following)
        assert not queue.holder.done
        queue.holder.go.set()
        await patient
        assert (late.done, following.done) == ([], ["only"])
        assert (queue.batcher.computed, queue.batcher.expired, queue.batcher.refused) == (2, 1, 0)


async def test_what_has_begun_is_not_late() -> None:
    """A sweep leaves it alone: here one finds another request that is."""
    async with held_queue() as queue, asyncio.timeout(HANG):
        begun = await queue.put(slow := Work(["first"], ["second"], held="first"), patience=5.0)
        queue.holder.go.set()
        assert await asyncio.to_thread(slow.begun.wait, HANG)
        late = await queue.put(Work(), patience=5.0)
        queue.clock.now += 5.001
        with pytest.raises(DeadlineExceeded):
            await late
        slow.go.set()
        await begun
        assert slow.done == ["first", "second"]


async def test_nothing_is_kept_of_who_left() -> None:
    """Requests that were abandoned, with their rows, are not in line until others are done."""
    async with held_queue() as queue:
        waiting = await queue.put(Work())
        left: list[weakref.ref[Work]] = []
        for _ in range(20):
            work = Work(seconds=100.0)
            left.append(weakref.ref(work))
            task = asyncio.create_task(queue.batcher.run(work, HANG))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            del work, task
        gc.collect()
        assert [there for each in left if (there := each()) is not None] == []
        assert not waiting.done()


async def test_nothing_is_kept_of_what_is_done() -> None:
    """An engine thread that waits for work has forgotten the last one."""
    batcher = Batcher(threads=1, max_queue=9)
    work = Work()
    there = weakref.ref(work)
    await batcher.run(work, HANG)
    del work
    while there() is not None:
        await asyncio.sleep(0)
        gc.collect()
    await asyncio.to_thread(batcher.close)


async def test_a_turn_that_comes_in_time_is_served() -> None:
    """At its deadline to the second a request still begins; once begun, it is finished however long that takes."""
    async with held_queue() as queue:
        slow = Work(["first"], ["second"], held="first")
        task = await queue.put(slow, patience=5.0)
        queue.clock.now += 5.0
        queue.holder.go.set()
        assert await asyncio.to_thread(slow.begun.wait, HANG)
        queue.clock.now += 1000.0
        slow.go.set()
        timings = await task
        assert slow.done == ["first", "second"]
        assert timings == Timings(queue=5.0, compute=1000.0)


async def test_a_passed_deadline_is_504(tiny_store: Path) -> None:
    """Over HTTP, X-Deadline-Ms decides, by default the setting: 504, and `computed` stays as it was."""
    async with held_service(tiny_store) as (queue, app, client):
        inference, arrived = app.state.inference, asyncio.Semaphore(0)
        whole = queue.batcher.run

        async def noted(*asked: Any) -> Timings:
            arrived.release()  # and without a chance for others in between, the request is in the queue
            return await whole(*asked)

        inference._batcher.run = noted
        by_header = asyncio.create_task(client.post(PATH, json=BODY, headers={"X-Deadline-Ms": "250"}))
        by_default = asyncio.create_task(client.post(PATH, json=BODY))
        for _ in range(2):
            await arrived.acquire()
        queue.clock.now += 0.251
        queue.holder.go.set()
        assert assert_problem(await by_header, 504)["type"] == "urn:penumbra:problem:deadline-exceeded"
        assert (await by_default).status_code == 200
        assert (queue.batcher.computed, queue.batcher.expired) == (2, 1)


async def test_a_timeout_of_the_protocol_is_a_deadline(tiny_store: Path) -> None:
    """Under /v2 a timeout in microseconds decides, unless X-Deadline-Ms is sent, too; 504 in the protocol's form."""
    tensor = {"name": "inputs", "shape": [1, 3], "datatype": "FP64", "data": TINY_ROWS[0]}
    body = {"inputs": [tensor], "parameters": {"timeout": 250_000}}
    async with held_service(tiny_store) as (queue, app, client):
        arrived, whole = asyncio.Semaphore(0), queue.batcher.run

        async def noted(*asked: Any) -> Timings:
            arrived.release()
            return await whole(*asked)

        app.state.inference._batcher.run = noted
        path = "/v2/models/silent/infer"
        late = asyncio.create_task(client.post(path, json=body))
        patient = asyncio.create_task(client.post(path, json=body, headers={"X-Deadline-Ms": "10000"}))
        for _ in range(2):
            await arrived.acquire()
        queue.clock.now += 0.251
        queue.holder.go.set()
        assert (await late).status_code == 504
        assert (await late).json() == {"error": "the deadline passed while the request was queued"}
        assert (await patient).status_code == 200
        assert (queue.batcher.computed, queue.batcher.expired) == (2, 1)
        (told,) = (await client.get("/v2/models/silent/stats")).json()["model_stats"]
        assert [told["inference_stats"][what]["count"] for what in ("success", "fail")] == [1, 1]


async def test_server_timing_is_the_queues_and_the_engines_time(tiny_store: Path) -> None:
    """Two seconds in line are told as two seconds in line."""
    async with held_service(tiny_store) as (queue, app, client):
        arrived = asyncio.Event()
        whole = queue.batcher.run

        async def noted(*asked: Any) -> Timings:
            arrived.set()
            return await whole(*asked)

        app.state.inference._batcher.run = noted
        waiting = asyncio.create_task(client.post(PATH, json=BODY))
        await arrived.wait()
        queue.clock.now += 2.0
        queue.holder.go.set()
        timing = (await waiting).headers["server-timing"]
        assert timing == "queue;dur=2000.000, compute;dur=0.000, total;dur=2000.000"


async def test_a_caller_who_leaves_the_queue_is_forgotten() -> None:
    """A request whose caller is cancelled while it waits is never computed, and its place is free again."""
    async with held_queue(max_queue=2) as queue:
        left = Work()
        task = await queue.put(left)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        following = Work()
        other = await queue.put(following)  # there is room again
        queue.holder.go.set()
        await other
        assert left.done == []
        assert following.done == ["only"]
        assert queue.batcher.computed == 2


async def test_a_caller_who_leaves_while_it_is_computed_takes_the_rest_along() -> None:
    """What has begun is finished, what has not is dropped, and the thread goes on to the next request."""
    async with held_queue() as queue:
        left, following = Work(["a", "b"], ["c"], held="a"), Work()
        task = await queue.put(left)
        queue.holder.go.set()
        assert await asyncio.to_thread(left.begun.wait, HANG)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other = await queue.put(following)
        left.go.set()
        await other
        assert left.done == ["a"]
        assert following.done == ["only"]
        assert queue.batcher.computed == 2


@pytest.mark.parametrize("failing", ["a", "b", "c"])
async def test_a_failure_stays_with_the_request_that_caused_it(failing: str) -> None:
    """A piece that raises fails its own request, whose other pieces are dropped; its neighbours don't notice."""
    async with held_queue() as queue:
        before, poisoned, after = (Work(["a", "b"], ["c"], failing=name) for name in ("", failing, ""))
        tasks = [await queue.put(work) for work in (before, poisoned, after)]
        queue.holder.go.set()
        with pytest.raises(ArithmeticError, match=failing):
            await tasks[1]
        await asyncio.gather(tasks[0], tasks[2])
        assert before.done == after.done == ["a", "b", "c"]
        assert poisoned.done == ["a", "b", "c"][: "abc".index(failing)]
        assert queue.batcher.computed == 3
        await queue.batcher.run(Work(), HANG)  # the thread has survived


async def test_a_failure_between_stages_is_the_requests_too() -> None:
    """An error while the next stage is unrolled reaches the caller, and the thread lives on."""

    class Broken(Work):
        def stages(self, company: Sequence[Work], threads: int) -> Iterator[list[Piece]]:
            yield from super().stages(company, threads)
            raise LookupError("no second stage")

    batcher = Batcher(threads=1, max_queue=10)
    with pytest.raises(LookupError, match="no second stage"):
        await batcher.run(Broken(), HANG)
    await batcher.run(Work(), HANG)
    assert batcher.computed == 1
    await asyncio.to_thread(batcher.close)


@pytest.mark.parametrize(
    ("thought", "order"),
    [
        (1.0, ["short", "short", "long", "long", "long", "long", "long"]),
        (0.001, ["short", "long", "short", "long", "long", "long", "long"]),
    ],
    ids=["as-thought", "longer"],
)
async def test_a_short_request_goes_ahead(thought: float, order: list[str]) -> None:
    """What would be done first by turns is done first, to its end; what takes longer than was thought takes turns."""
    done: list[str] = []

    async with held_queue() as queue:

        class Noted(Work):
            def __init__(self, name: str, pieces: int) -> None:
                super().__init__([name] * pieces, seconds=thought * pieces)
                self.done = done

            def _piece(self, name: str) -> Piece:
                def piece(workspace: Workspace) -> None:
                    queue.clock.now += 1.0
                    noted(workspace)

                noted = super()._piece(name)
                return piece

        long, short = await queue.put(Noted("long", 5)), await queue.put(Noted("short", 2))
        queue.clock.now += 1.0  # as long as the one that holds the thread was thought to take
        queue.holder.go.set()
        await asyncio.gather(long, short)
        assert done == order


async def test_closing_finishes_what_was_admitted_and_takes_no_more() -> None:
    """After `close` has begun new work is refused, and every request that was admitted before gets its answer."""
    async with held_queue() as queue:
        waiting = Work(["a"], ["b"])
        task = await queue.put(waiting)
        closing = asyncio.create_task(asyncio.to_thread(queue.batcher.close))
        for _ in range(1000):  # closing begins on another thread: until then, requests are still taken
            if await is_refused(await queue.put(Work())):
                break
        else:
            pytest.fail("requests are taken though the queue is closing")
        assert not closing.done()
        queue.holder.go.set()
        await task
        await closing
        assert waiting.done == ["a", "b"]


async def is_refused(task: asyncio.Task[Timings]) -> bool:
    """Whether a request that was put was refused rather than admitted."""
    await asyncio.to_thread(lambda: None)
    return task.done() and isinstance(task.exception(), ShuttingDown)


async def test_a_service_that_shuts_down_is_503(tiny_store: Path) -> None:
    """A request that comes while the engine closes is told to try again later, perhaps elsewhere."""
    async with running(store=tiny_store) as (app, client):
        await asyncio.to_thread(app.state.inference._batcher.close)
        refused = await client.post(PATH, json=BODY)
        assert assert_problem(refused, 503)["type"] == "urn:penumbra:problem:shutting-down"
        assert int(refused.headers["retry-after"]) >= 1
