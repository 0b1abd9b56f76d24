"""Equal requests are computed once: an answer is known, or being computed for another caller, or it is computed now.

Answers are pure functions of their keys, so that whichever way one comes it has the same bytes. Where answers are kept
is the business of `memory` and `shared`. Knows nothing of networks or HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from service.batching import Timings
from service.caching.memory import Memory, Written
from service.caching.shared import Shared
from service.errors import CallerGone, DeadlineExceeded, ShareExceeded
from service.turns import Clock

# Found in memory, found where all machines look, computed for another who asked at the same time, or computed.
Outcome = Literal["hit", "shared", "joined", "miss"]
Gone = Callable[[], bool]
# An answer that has to be computed, for whoever is not gone, within some seconds of patience.
Compute = Callable[[float, Gone], Awaitable[tuple[Written, Timings]]]


class Told(NamedTuple):
    """An answer, how long it took (None where nobody waited for it to be computed), and how it came.

    Without an outcome nothing was looked up.
    """

    written: Written
    timings: Timings | None
    outcome: Outcome | None = None


class _Landed(NamedTuple):
    """What those who joined are given: the answer, and when its computing began and ended."""

    written: Written
    began: float
    ended: float


class _Flight:
    """An answer that is being computed, and those who wait for it: the first of them computes it.

    Hardly any has others, and all pay for what is made here.
    """

    __slots__ = ("_first", "others")

    def __init__(self, gone: Gone) -> None:
        self._first = gone
        self.others: dict[asyncio.Future[_Landed | None], Gone] | None = None

    def gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._first() and all(gone() for gone in (self.others or {}).values())

    async def join(self, gone: Gone) -> _Landed | None:
        """What the first is given; None where it is given nothing, for a reason that is its own."""
        waiting: asyncio.Future[_Landed | None] = asyncio.get_running_loop().create_future()
        self.others = others = self.others or {}
        others[waiting] = gone
        try:
            return await waiting
        finally:  # reached early where this one is cancelled
            del others[waiting]

    def land(self, landed: _Landed) -> None:
        """Tells the others."""
        for waiting in self.others or ():
            if not waiting.done():
                waiting.set_result(landed)

    def fail(self, failure: BaseException) -> None:
        """Tells the others. That the first has gone, could not wait, or asks too much is nothing to them."""
        its_own = not isinstance(failure, Exception) or isinstance(
            failure, (CallerGone, DeadlineExceeded, ShareExceeded)
        )
        for waiting in self.others or ():
            if waiting.done():
                continue
            if its_own:
                waiting.set_result(None)
            else:
                waiting.set_exception(failure)


class Answers:
    """What has been answered, as far as there is room for it, and what is being computed."""

    def __init__(self, memory: Memory, shared: Shared | None = None, clock: Clock = time.monotonic) -> None:
        self.memory, self.shared = memory, shared
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}

    @property
    def joined(self) -> int:
        """Requests that wait for what another computes."""
        return sum(len(flight.others or ()) for flight in self._flights.values())

    async def get(
        self, key: bytes, patience: float, gone: Gone, compute: Compute, seconds: Callable[[], float], *, dear: bool
    ) -> Told:
        """The answer to what `key` names; `seconds` tells about how long one core takes to compute it.

        A `dear` one is kept although it was asked for once. Computing goes on while anybody who asked for it is
        not `gone`. Each caller's `patience` is its own: raises
        DeadlineExceeded where it had passed before computing began, and else whatever `compute` raises.
        """
        known = self.memory.get(key)
        if known is not None:
            return Told(known, None, "hit")
        flight = self._flights.get(key)
        if flight is not None:
            return await self._join(flight, key, patience, gone, compute, seconds, dear=dear)
        flight = self._flights[key] = _Flight(gone)
        timings = None
        began = self._clock()
        try:
            if self.shared is not None:
                known = await self.shared.get(key, seconds())
                before, began = began, self._clock()
                patience -= began - before
            if known is None:
                known, timings = await compute(patience, flight.gone)
        except BaseException as failure:
            del self._flights[key]
            flight.fail(failure)
            raise
        del self._flights[key]
        self.memory.put(key, known, dear=dear)
        if flight.others:
            flight.land(_Landed(known, began + (timings.queue if timings else 0.0), self._clock()))
        if timings is None:
            return Told(known, None, "shared")
        if self.shared is not None:
            self.shared.put(key, known, seconds())
        return Told(known, timings, "miss")

    async def _join(
        self,
        flight: _Flight,
        key: bytes,
        patience: float,
        gone: Gone,
        compute: Compute,
        seconds: Callable[[], float],
        *,
        dear: bool,
    ) -> Told:
        """Waits for what another computes; where that comes to nothing for a reason of the other's, asks again."""
        arrived = self._clock()
        landed = await flight.join(gone)
        if landed is None:
            left = arrived + patience - self._clock()
            if left < 0.0:
                raise DeadlineExceeded
            return await self.get(key, left, gone, compute, seconds, dear=dear)
        if landed.began > arrived + patience:
            raise DeadlineExceeded
        begun = max(landed.began, arrived)
        return Told(landed.written, Timings(begun - arrived, max(0.0, landed.ended - begun)), "joined")
