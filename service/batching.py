"""Admission, company and deadlines: every request waits its turn here, and nothing here is computed for nobody.

Small requests are evaluated on the event loop itself: handing one over to a thread takes longer than computing it. What
has arrived by then is evaluated together, so company forms exactly when the process is busy, and a lone request never
waits for any. Larger requests gain nothing from company and take turns on the engine threads. Knows nothing of
networks, models or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from service.engine.evaluation import Piece
from service.engine.workspace import Workspace
from service.errors import CallerGone, DeadlineExceeded, MemoryShort, ShuttingDown, Unavailable
from service.fairness import Line, Shares
from service.turns import Clock, Turn, Turns

logger = logging.getLogger(__name__)

# Up to here (estimated) a request is evaluated on the event loop.
SMALL_SECONDS = 0.0005
# What the event loop computes at once before it looks at its connections again.
COMPANY_SECONDS = 0.002
# Turns of the event loop that company may take to gather.
_MOST_TURNS = 8
# How often requests are looked for whose caller hung up or whose deadline passed: less often among many, for which a
# look takes longer.
SWEEP_SECONDS, _SWEEP_SECONDS_EACH = 0.05, 0.0002
# Memory that is short is not soon plenty.
_MEMORY_RETRY = 5


class Job(Protocol):
    """What the batcher knows of a request."""

    @property
    def seconds(self) -> float:
        """About how long one core takes for it."""

    @property
    def company(self) -> Hashable:
        """Jobs for which this is equal can be evaluated together; None: this one alone."""

    @property
    def failure(self) -> Exception | None:
        """What was wrong with this job, found while it was evaluated; others in its company don't notice."""

    def stages(self, company: Sequence[Any], threads: int) -> Iterator[Sequence[Piece]]:
        """The work of a company that this job is one of, as stages of independent pieces."""


class Timings(NamedTuple):
    """Seconds from admission to the first piece, and from there to the last."""

    queue: float
    compute: float


# Is told of jobs that were evaluated together, before they are answered: how long each waited, and how long it took.
Observe = Callable[[Sequence[Any], Sequence[float], float], None]


def _unobserved(jobs: Sequence[Any], waits: Sequence[float], seconds: float) -> None:
    """Nobody is told."""


@dataclass(slots=True, eq=False)
class _Admitted:
    """One request on its way; lives on the event loop."""

    job: Job
    seconds: float
    answer: asyncio.Future[Timings]
    arrived: float
    deadline: float
    gone: Callable[[], bool]
    caller: str
    turn: Turn | None = None


class Batcher:
    """A bounded queue in front of the event loop's share of the work and of the engine threads.

    At most `max_queue` requests, and `max_seconds` of work as estimated, are admitted at once, and callers take turns:
    see `fairness`. Nothing large is admitted while `memory_short` says so. Counters for tests and telemetry: requests
    `computed`, `companies` evaluated, requests `refused`, `expired` and `abandoned`; of the last three nothing was
    computed, unless a long request was abandoned half-way.
    """

    def __init__(
        self,
        threads: int,
        max_queue: int,
        max_seconds: float = math.inf,
        clock: Clock = time.monotonic,
        observe: Observe = _unobserved,
        memory_short: Callable[[], bool] = lambda: False,
    ) -> None:
        self.threads, self._observe, self._memory_short = threads, observe, memory_short
        self.computed = self.companies = self.refused = self.expired = self.abandoned = 0
        self._clock = clock
        self._shares = Shares(threads, max_queue, max_seconds)
        self._turns = Turns(threads, clock)
        self._workspace = Workspace()  # the event loop's
        # The one that asks first: to ask which it is takes a system call.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._admitted: set[_Admitted] = set()
        self._small: Line[_Admitted] = Line()
        self._small_seconds = 0.0
        self._flushing = self._sweeping = self._closing = False

    async def run(
        self,
        job: Job,
        patience: float,
        gone: Callable[[], bool] = lambda: False,
        caller: str = "",
        *,
        begun: bool = False,
    ) -> Timings:
        """Evaluates a job, alone or in company; returns when it is done.

        Callers take turns; small jobs of one `caller` keep their order, large ones have that of `sojourns`. A job that
        continues what has `begun` waits its turn again, but is not refused as long as others are taken; where its
        caller has hung up meanwhile it is not even put in line.
        Raises QueueFull, ShareExceeded, MemoryShort or ShuttingDown at once, DeadlineExceeded when `patience` seconds
        pass before it begins, CallerGone when `gone` says that nobody waits for the answer, and whatever the
        evaluation raises.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if begun and gone():
            self.abandoned += 1
            raise CallerGone("the caller hung up")
        seconds = job.seconds
        self._admit(caller, seconds, begun=begun)
        now = self._clock()
        entry = _Admitted(job, seconds, loop.create_future(), now, now + patience, gone, caller)
        self._admitted.add(entry)
        try:
            if seconds <= SMALL_SECONDS:
                self._put_small(loop, entry)
            else:
                self._put_large(loop, entry)
            if not self._sweeping:
                self._sweeping = True
                self._sweep_later(loop)
            return await entry.answer
        finally:
            # Reached early when the caller is cancelled: what has not begun is dropped.
            self._forget(entry)

    def foresee(self, caller: str) -> None:
        """Raises what `run` would raise at once for any large request of this caller."""
        try:
            self._look_at_memory()
            self._shares.foresee(caller)
        except Unavailable:
            self.refused += 1
            raise

    @property
    def admitted(self) -> int:
        """Requests that were admitted and are not answered yet."""
        return len(self._admitted)

    @property
    def queued(self) -> int:
        """Those of them whose evaluation has not begun."""
        turns = [entry.turn for entry in self._admitted if entry.turn is not None]
        return self._small.length + sum(turn.started is None for turn in turns)

    @property
    def admitted_seconds(self) -> float:
        """The work in what is admitted, as estimated."""
        return self._shares.seconds

    def close(self) -> None:
        """Takes no new work, finishes what was admitted, ends the threads. Called from another thread."""
        self._closing = True
        self._turns.close()

    def _admit(self, caller: str, seconds: float, *, begun: bool) -> None:
        if self._closing:
            raise ShuttingDown("the service is shutting down")
        try:
            if seconds > SMALL_SECONDS and not begun:
                self._look_at_memory()
            self._shares.admit(caller, seconds, begun=begun)
        except Unavailable:
            self.refused += 1
            raise

    def _look_at_memory(self) -> None:
        if self._memory_short():
            raise MemoryShort("memory is short: nothing large is taken for now", _MEMORY_RETRY)

    def _put_small(self, loop: asyncio.AbstractEventLoop, entry: _Admitted) -> None:
        self._small.put(entry.caller, entry)
        self._small_seconds += entry.seconds
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._look, loop, self._small.length, 0)

    def _put_large(self, loop: asyncio.AbstractEventLoop, entry: _Admitted) -> None:
        def done(failure: Exception | None) -> None:
            with suppress(RuntimeError):  # the event loop has ended: nobody waits for the answer any more
                loop.call_soon_threadsafe(self._settle_turn, entry, failure)

        stages = entry.job.stages([entry.job], self.threads)
        entry.turn = Turn(stages, entry.seconds, entry.deadline, done, entry.caller)
        self._turns.put(entry.turn)

    def _look(self, loop: asyncio.AbstractEventLoop, seen: int, turns: int) -> None:
        """Evaluates once a turn of the event loop has brought nobody new, or enough.

        Without that turn, requests that were read while others were answered would form companies of their own.
        """
        arrived = self._small.length
        if arrived > seen and turns < _MOST_TURNS and self._small_seconds < COMPANY_SECONDS:
            loop.call_soon(self._look, loop, arrived, turns + 1)
            return
        try:
            self._flush()
        finally:
            self._flushing = self._small.length > 0
            if self._flushing:
                loop.call_soon(self._look, loop, self._small.length, 0)

    def _flush(self) -> None:
        """Evaluates small requests, up to a few milliseconds of work; callers take turns."""
        companies: dict[Hashable, list[_Admitted]] = {}
        now, seconds = self._clock(), 0.0
        while self._small.length and seconds < COMPANY_SECONDS:
            entry = self._small.take()
            self._small_seconds = self._small_seconds - entry.seconds if self._small.length else 0.0
            if entry.answer.done():
                continue
            if now > entry.deadline:
                self._settle(entry, now, DeadlineExceeded())
                continue
            seconds += entry.seconds
            self._small.charge(entry.caller, entry.seconds)
            try:
                key = entry.job.company
            except Exception as error:  # noqa: BLE001 - whatever it is, the request that caused it gets it
                self._settle(entry, now, error)
                continue
            companies.setdefault(id(entry) if key is None else key, []).append(entry)
        for company in companies.values():
            self._evaluate(company)

    def _evaluate(self, company: Sequence[_Admitted]) -> None:
        """Evaluates jobs together, here and now."""
        began = self._clock()
        jobs = [entry.job for entry in company]
        try:
            for stage in jobs[0].stages(jobs, 1):
                for piece in stage:
                    piece(self._workspace)
            well = [entry for entry in company if entry.job.failure is None]
        except Exception as error:  # noqa: BLE001 - one bad request must not fail its company
            if len(company) == 1:
                self._settle(company[0], began, error)
                return
            for entry in company:
                self._evaluate([entry])
            return
        self.companies += 1
        if well:
            self._tell(well, began)
        for entry in company:
            self._settle(entry, began, entry.job.failure)

    def _tell(self, company: Sequence[_Admitted], began: float) -> None:
        """Tells the observer, whose mistakes are nobody's answer."""
        try:
            waits = [began - entry.arrived for entry in company]
            self._observe([entry.job for entry in company], waits, self._clock() - began)
        except Exception:
            logger.exception("an evaluation was not observed; please report this")

    def _settle_turn(self, entry: _Admitted, failure: Exception | None) -> None:
        """Takes the outcome of an engine thread."""
        started = entry.turn.started if entry.turn else None
        began = self._clock() if started is None else started
        failure = failure or entry.job.failure
        if failure is None and not entry.answer.done():
            self._tell([entry], began)
        self._settle(entry, began, failure)

    def _settle(self, entry: _Admitted, began: float, failure: Exception | None) -> None:
        if entry.answer.done():
            return
        if failure is None:
            self.computed += 1
            entry.answer.set_result(Timings(began - entry.arrived, self._clock() - began))
        else:
            self.expired += isinstance(failure, DeadlineExceeded)
            self.abandoned += isinstance(failure, CallerGone)
            entry.answer.set_exception(failure)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes out what nobody waits for any more, and what is too late to begin."""
        try:
            now = self._clock()
            for entry in list(self._admitted):
                if not entry.answer.done() and (failure := self._lost(entry, now)) is not None:
                    self._settle(entry, now, failure)
                    self._forget(entry)
        finally:
            self._sweeping = bool(self._admitted)
            if self._sweeping:
                self._sweep_later(loop)

    def _lost(self, entry: _Admitted, now: float) -> Exception | None:
        """Why a request will not be answered any more; None if it may be."""
        try:
            if entry.gone():
                return CallerGone("the caller hung up")
        except Exception as error:  # noqa: BLE001 - whatever it is, the request that caused it gets it
            return error
        # Its turn, at which deadlines are looked at, may be a long time coming.
        late = now > entry.deadline and (entry.turn is None or self._turns.withdraw(entry.turn))
        return DeadlineExceeded() if late else None

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(SWEEP_SECONDS + _SWEEP_SECONDS_EACH * len(self._admitted), self._sweep, loop)

    def _forget(self, entry: _Admitted) -> None:
        """Takes a request out of the count, once, and what has not begun of it out of the queue."""
        if entry not in self._admitted:
            return
        self._admitted.discard(entry)
        self._shares.release(entry.caller, entry.seconds)
        if not entry.answer.done():
            entry.answer.cancel()
        if entry.turn is not None:
            self._turns.drop(entry.turn)
            # Each knows the other, and what was computed would wait for the garbage collector with them.
            entry.turn = None
