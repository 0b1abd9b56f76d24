"""The order in which one caller's works are done: the one that turns would finish first goes first.

If works took turns, a piece of each at a time, short ones would not wait for long ones; but equal ones would all end
together, at the very end. The fair sojourn protocol keeps the first and avoids the second (Friedman and Henderson,
"Fairness and efficiency in web server protocols", SIGMETRICS 2003): a clock simulates turns, and works are done one by
one in the order in which turns would finish them. Most end sooner than by turns, and none later, give or take a piece,
if lengths are known and there is one core, or each work can use all of them. Where works can't be spread over several
cores, the last ones may end later than by turns.

Lengths are estimates, so a work may not be done when turns would have finished it. Such late works take turns with each
other and with the first of the rest: a wrong estimate holds up nobody for long (Dell'Amico, Carra and Michiardi, "PSBS:
practical size-based scheduling", 2016). Knows nothing of what works are, nor of threads.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import count
from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class ProcessorSharing:
    """A simulation of turns: `now` is the seconds that each work would have been given, had all shared evenly.

    A work that joins at `now` and takes so many seconds ends when each has been given that many more.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._ends: list[float] = []  # of works that would not be done yet, in order

    def join(self, seconds: float) -> float:
        """Adds a work of about so many seconds; returns its end."""
        end = self.now + seconds
        insort(self._ends, end)
        return end

    def leave(self, end: float, true_end: float) -> None:
        """Corrects the end of a work, now that its length is known: turns would be busy with it until then."""
        place = bisect_left(self._ends, end)
        if place < len(self._ends) and self._ends[place] == end:
            del self._ends[place]
        if true_end > self.now:
            insort(self._ends, true_end)

    def give(self, seconds: float) -> None:
        """Shares out seconds that were given to one work or another."""
        while self._ends:
            first, works = self._ends[0], len(self._ends)
            if self.now + seconds / works < first:
                self.now += seconds / works
                return
            seconds -= (first - self.now) * works
            self.now = first
            del self._ends[0]


class Work(Protocol):
    """What `Sojourns` orders."""

    place: tuple[float, int]
    """When turns would finish it, and a number that decides between equals; `Sojourns` sets it."""

    @property
    def seconds(self) -> float:
        """How long it takes, as estimated."""

    @property
    def spent(self) -> float:
        """How long it has taken so far."""


Item = TypeVar("Item", bound=Work)
_place = attrgetter("place")


class Sojourns(Generic[Item]):
    """One caller's works that are not over: `unfinished` in number, whether they are in line or being worked on."""

    def __init__(self) -> None:
        self.unfinished = 0
        self._sharing = ProcessorSharing()
        self._number = count()
        self._early: list[Item] = []  # in order of their places
        # Works that are late, by turns; None is the turn of the first early one.
        self._late: deque[Item | None] = deque([None])

    def join(self, work: Item) -> None:
        """Adds a work and puts it in line."""
        self.unfinished += 1
        work.place = self._sharing.join(work.seconds), next(self._number)
        self.put(work)

    def put(self, work: Item) -> None:
        """Puts a work in line again."""
        insort(self._early, work, key=_place)

    def take(self) -> Item:
        """Takes the work that is next out of line; there must be one."""
        while self._early and self._early[0].place[0] <= self._sharing.now:
            self._late.append(self._early.pop(0))
        work = self._late.popleft()
        if work is None:
            self._late.append(None)
            work = self._early.pop(0) if self._early else self._late.popleft()
        assert work is not None, "nothing is in line. This is a bug."
        return work

    def withdraw(self, work: Item) -> None:
        """Takes this work out of line, where it must be."""
        at = bisect_left(self._early, work.place, key=_place)
        if at < len(self._early) and self._early[at] is work:
            del self._early[at]
        else:
            self._late.remove(work)

    def give(self, seconds: float) -> None:
        """Notes that the caller was given so much, whichever work it was for."""
        self._sharing.give(seconds)

    def leave(self, work: Item) -> None:
        """Removes a work that is over, and not in line."""
        self.unfinished -= 1
        end, _ = work.place
        self._sharing.leave(end, end - work.seconds + work.spent)
