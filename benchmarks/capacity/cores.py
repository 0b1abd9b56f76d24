"""Processes that share cores, in simulated time. Knows nothing of services.

A process is a generator: it yields how many seconds of a core it needs next, or None to sleep until something is
delivered to it. Those that need a core share all cores equally (processor sharing), none ever using more than one.
Nothing here is random but what `vary` makes of needs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from itertools import count
from typing import Any

Body = Generator[float | None, None, None]


class Process:
    """What is delivered waits in `inbox`; one that sleeps takes `wake` seconds to begin."""

    def __init__(self, wake: float = 0.0, vary: Callable[[float], float] = lambda seconds: seconds) -> None:
        self.inbox: deque[Any] = deque()
        self.wake, self.vary = wake, vary
        self.asleep = False
        self.body: Body | None = None


class Cores:
    """Simulated time, in seconds, and who uses it."""

    def __init__(self, number: int) -> None:
        self.now = 0.0
        self._number = number
        self._order = count()  # among equals, first come, first served
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        # Sorted by what each runner has to attain. All attain at one pace, so that order never changes.
        self._running: list[tuple[float, int, Process]] = []
        self._attained = 0.0  # seconds of a core, by whoever has been running from the beginning

    def begin(self, process: Process, body: Body) -> None:
        """From now on it runs."""
        process.body = body
        self._go_on(process)

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Calls at a moment that has not passed."""
        heappush(self._timers, (moment, next(self._order), call))

    def deliver(self, process: Process, message: Any) -> None:
        """Puts a message into a process's inbox, and wakes it."""
        process.inbox.append(message)
        if process.asleep:
            process.asleep = False
            self.at(self.now + process.wake, lambda: self._go_on(process))

    def run(self, until: float) -> None:
        """Goes on until that moment."""
        while True:
            pace = min(1.0, self._number / len(self._running)) if self._running else 0.0
            done = self.now + max(0.0, self._running[0][0] - self._attained) / pace if pace else math.inf
            due = self._timers[0][0] if self._timers else math.inf
            moment = min(done, due, until)
            self._attained += pace * (moment - self.now)
            self.now = moment
            if until <= min(done, due):
                return
            if due <= done:
                heappop(self._timers)[2]()
            else:
                self._go_on(heappop(self._running)[2])

    def _go_on(self, process: Process) -> None:
        if process.body is None:
            raise RuntimeError("a process was woken before it began; this is a bug")
        need = next(process.body)
        if need is None:
            process.asleep = True
        else:
            heappush(self._running, (self._attained + process.vary(need), next(self._order), process))
