"""In which order one caller's works are done: none later than if all were done at once, most of them sooner.

To give each a piece in turn keeps short works from waiting for long ones, and finishes equal ones all at the end. So a
clock goes along that shows what such turns would have given to each work; first is done the one that they would finish
first, to its end, which is as good for each and better for most (the fair sojourn protocol: Friedman and Henderson,
"Fairness and efficiency in web server protocols", SIGMETRICS 2003). Lengths are estimates: works that turned out longer
take turns after all, with each other and the next that is not late, so that a wrong estimate is never worse than turns
(Dell'Amico, Carra and Michiardi, "PSBS: practical size-based scheduling", 2016). Knows nothing of what works are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar


class ProcessorSharing:
    """What each of several works would have been given if all had been done at once and evenly, in seconds: `now`.

    One that comes at `now` and takes so many seconds would be done when that many more have been given to each.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._ends: list[float] = []  # of works that would not be done yet, in order

    def join(self, seconds: float) -> float:
        """Another work, of about so many seconds; returns its end."""
        end = self.now + seconds
        insort(self._ends, end)
        return end

    def leave(self, end: float, true_end: float) -> None:
        """It is known how long a work is for which this end was told: what is left of it goes on until the true one."""
        place = bisect_left(self._ends, end)
        if place < len(self._ends) and self._ends[place] == end:
            del self._ends[place]
        if true_end > self.now:
            insort(self._ends, true_end)

    def give(self, seconds: float) -> None:
        """So much has been given, to whichever."""
        while self._ends:
            first, works = self._ends[0], len(self._ends)
            if self.now + seconds / works < first:
                self.now += seconds / works
                return
            seconds -= (first - self.now) * works
            self.now = first
            del self._ends[0]


class Work(Protocol):
    """What has its place here."""

    @property
    def end(self) -> float:
        """When turns would finish it."""

    @property
    def number(self) -> int:
        """Decides between equal ends."""

    @property
    def late(self) -> bool:
        """Whether turns would have finished it by now."""


Item = TypeVar("Item", bound=Work)


class Sojourns(Generic[Item]):
    """Works in line, in that order; with the methods of a queue that `fairness.Line` asks for."""

    def __init__(self) -> None:
        self._early: list[tuple[float, int, Item]] = []
        # None: the first of those that are not late.
        self._late: deque[Item | None] = deque([None])

    def __len__(self) -> int:
        return len(self._early) + len(self._late) - 1

    def append(self, item: Item) -> None:
        """Puts a work in its place."""
        heappush(self._early, (item.end, item.number, item))

    def popleft(self) -> Item:
        """The work whose turn it is; there must be one."""
        while self._early and self._early[0][2].late:
            self._late.append(heappop(self._early)[2])
        item = self._late.popleft()
        if item is None:
            self._late.append(None)
            item = heappop(self._early)[2] if self._early else self._late.popleft()
        assert item is not None, "nothing is in line. This is a bug."
        return item
