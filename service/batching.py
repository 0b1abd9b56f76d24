"""Admission, queue and engine threads: requests wait their turn here and never block the event loop.

Work comes as stages of short pieces. The threads take one piece from each admitted request in turn, so that a long
request holds up a small one by a few pieces, not by its length. Knows nothing of networks, models or HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from service.engine.evaluate import Piece, use_one_thread
from service.engine.tiles import Workspace
from service.errors import DeadlineExceeded, QueueFull, ShuttingDown

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from admission to the first piece, and from there to the last."""

    queue: float
    compute: float


@dataclass(slots=True, eq=False)
class _Admitted:
    """One request on its way; guarded by the queue's lock."""

    stages: Iterator[Sequence[Piece]]
    ready: deque[Piece]
    deadline: float
    arrived: float
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Timings]
    running: int = 0
    started: float | None = None
    over: bool = False


class Batcher:
    """A bounded queue in front of a fixed set of engine threads.

    Counters are public for tests and telemetry: `computed` requests, `expired` ones that were never computed.
    """

    def __init__(self, threads: int, max_queue: int, clock: Clock = time.monotonic) -> None:
        self.threads = threads
        self.computed = 0
        self.expired = 0
        self._max_queue = max_queue
        self._clock = clock
        self._changed = threading.Condition()
        self._turns: deque[_Admitted] = deque()
        self._admitted = 0
        self._closing = False
        self._workers = [
            threading.Thread(target=self._serve, name=f"engine-{number}", daemon=True) for number in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    async def run(self, stages: Iterator[Sequence[Piece]], patience: float) -> Timings:
        """Runs the stages in order, the pieces of a stage in any order; returns when the last is done.

        Raises QueueFull or ShuttingDown at once, DeadlineExceeded when `patience` seconds pass before the first
        piece has begun (nothing is computed then), and whatever a piece raises.
        """
        loop = asyncio.get_running_loop()
        now = self._clock()
        entry = _Admitted(stages, deque(next(stages)), now + patience, now, loop, loop.create_future())
        with self._changed:
            if self._closing:
                raise ShuttingDown("the service is shutting down")
            if self._admitted >= self._max_queue:
                raise QueueFull("the queue is full")
            self._admitted += 1
            self._turns.append(entry)
            self._changed.notify()
        try:
            return await entry.answer
        finally:
            # Reached early when the caller is cancelled: what has not begun is dropped.
            with self._changed:
                self._finish(entry)

    def close(self) -> None:
        """Takes no new work, finishes what was admitted, ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _serve(self) -> None:
        use_one_thread()
        workspace = Workspace()
        while (turn := self._take()) is not None:
            entry, piece = turn
            try:
                piece(workspace)
                failure = None
            except BaseException as error:  # noqa: BLE001 - a thread that dies would take its queue with it
                failure = error
            self._piece_done(entry, failure)

    def _take(self) -> tuple[_Admitted, Piece] | None:
        """The next piece, waiting for one; None when closed and nothing is left."""
        with self._changed:
            while True:
                while not self._turns:
                    if self._closing and self._admitted == 0:
                        return None
                    self._changed.wait()
                entry = self._turns.popleft()
                if entry.over:
                    continue
                if entry.started is None:
                    if self._clock() > entry.deadline:
                        self.expired += 1
                        self._settle(entry, DeadlineExceeded("the deadline passed while the request was queued"))
                        continue
                    entry.started = self._clock()
                piece = entry.ready.popleft()
                entry.running += 1
                if entry.ready:
                    self._turns.append(entry)
                    self._changed.notify()
                return entry, piece

    def _piece_done(self, entry: _Admitted, failure: BaseException | None) -> None:
        with self._changed:
            entry.running -= 1
            if failure is not None:
                self._settle(entry, failure)
            if entry.over or entry.ready or entry.running:
                return
        # Only the last piece of a stage comes here, so the next stage can be unrolled outside the lock.
        try:
            following = next(entry.stages, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request that caused it gets it
            following, failure = None, error
        with self._changed:
            if following is None:
                self.computed += failure is None
                self._settle(entry, failure)
            else:
                entry.ready.extend(following)
                self._turns.append(entry)
                self._changed.notify_all()

    def _settle(self, entry: _Admitted, failure: BaseException | None) -> None:
        """Hands the outcome to the event loop; the lock is held."""
        if entry.over:
            return
        now = self._clock()
        started = entry.started if entry.started is not None else now
        timings = Timings(queue=started - entry.arrived, compute=now - started)
        self._finish(entry)
        with suppress(RuntimeError):  # the event loop has ended: nobody waits for the answer any more
            entry.loop.call_soon_threadsafe(_deliver, entry.answer, timings, failure)

    def _finish(self, entry: _Admitted) -> None:
        """Takes a request out of the count, once; the lock is held."""
        if not entry.over:
            entry.over = True
            entry.ready.clear()
            self._admitted -= 1
            self._changed.notify_all()


def _deliver(answer: asyncio.Future[Timings], timings: Timings, failure: BaseException | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(timings)
    else:
        answer.set_exception(failure)
