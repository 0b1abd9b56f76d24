"""Callers share a queue: how much of it is whose, and whose turn is next.

Turns are start-time fair queueing (Goyal, Vin and Cheng, 1996) in seconds of work: whoever has been given least goes
next, and who comes, or comes back, starts where the others are by then, so that nobody saves up. A single caller
has all of both. Knows nothing of what waits, nor who callers are.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Generic, TypeVar

from service.errors import QueueFull, ShareExceeded

Item = TypeVar("Item")

_LONGEST_RETRY = 60
# Who has been refused is refused unheard until so much of the queue is free again.
_FREE = 1 / 8
# More callers than this are not remembered where that makes no difference.
_MOST_REMEMBERED = 1024


class _Own(Generic[Item]):
    """What one caller has in line, and the seconds of work that it has been given, or might have been."""

    __slots__ = ("given", "items")

    def __init__(self, given: float) -> None:
        self.given = given
        self.items: deque[Item] = deque()


class Line(Generic[Item]):
    """Items of several callers, so many as `length` says: each caller's in their order, callers by turns."""

    def __init__(self) -> None:
        self._owners: dict[str, _Own[Item]] = {}
        # Owners of items, by what they had been given when they were put here; equals by how long they have waited.
        self._next: list[tuple[float, int, _Own[Item]]] = []
        self._number = count()
        self._now, self.length = 0.0, 0  # what the last one whose turn it was had been given

    def put(self, caller: str, item: Item) -> None:
        """Puts an item behind its caller's others."""
        owner = self._owners.get(caller)
        if owner is None:
            if len(self._owners) >= _MOST_REMEMBERED:
                self._forget()
            owner = self._owners[caller] = _Own(self._now)
        if not owner.items:
            if owner.given < self._now:
                owner.given = self._now
            heappush(self._next, (owner.given, next(self._number), owner))
        owner.items.append(item)
        self.length += 1

    def take(self) -> Item:
        """The next item; there must be one."""
        at, _, owner = self._next[0]
        several = len(self._next) > 1
        while several and owner.given > at:  # charged since
            heapreplace(self._next, (owner.given, next(self._number), owner))
            at, _, owner = self._next[0]
        self._now = owner.given
        item = owner.items.popleft()
        self.length -= 1
        if not owner.items:
            heappop(self._next)
        elif several:
            heapreplace(self._next, (owner.given, next(self._number), owner))
        return item

    def take_back(self, caller: str) -> Item:
        """Takes the item out that this caller put in last; there must be one."""
        owner = self._owners[caller]
        item = owner.items.pop()
        self.length -= 1
        if not owner.items:
            self._next = [entry for entry in self._next if entry[2] is not owner]
            heapify(self._next)
        return item

    def charge(self, caller: str, seconds: float) -> None:
        """What an item of this caller took."""
        owner = self._owners.get(caller)
        if owner is None:
            return
        owner.given += seconds
        if not self.length and owner.given > self._now:  # nobody has to wait, so nobody is behind
            self._now = owner.given

    def _forget(self) -> None:
        """Drops those who would start where anybody does."""
        for caller in [name for name, own in self._owners.items() if not own.items and own.given <= self._now]:
            del self._owners[caller]


class _Part:
    """What one caller has in the queue: at first one request."""

    __slots__ = ("count", "seconds")

    def __init__(self, seconds: float) -> None:
        self.count, self.seconds = 1, seconds


class Shares:
    """Admission to a queue of `most` requests and `most_seconds` of work, which `cores` cores see to.

    With nothing admitted any request is. Where the queue is full, who has less than an equal part of it is admitted all
    the same: a flood takes nothing from others. All together never have more than twice as much.

    `count` and `seconds` are of all that is admitted.
    """

    def __init__(self, cores: int, most: int, most_seconds: float) -> None:
        self.count, self.seconds = 0, 0.0
        self._cores, self._most, self._most_seconds = cores, most, most_seconds
        self._own: dict[str, _Part] = {}
        self._refusing = False

    def foresee(self, caller: str) -> None:
        """Raises what `admit` would for any request of this caller, or did for its last one, while little has changed.

        So that under a flood no time goes into requests that come to nothing.
        """
        share = 1.0 - _FREE if self._refusing else 1.0
        if self.count >= self._most * share or self.seconds >= self._most_seconds * share:
            self._refuse_unless_owed(caller, 0.0)
        else:
            self._refusing = False

    def admit(self, caller: str, seconds: float, *, begun: bool = False) -> None:
        """Takes in a request with so much work; one that has `begun` whether there is room or not.

        Raises QueueFull, or ShareExceeded where it is this caller that fills the queue, and others wait.
        """
        if not begun and (self.count >= self._most or self.seconds + seconds > self._most_seconds):
            self._refuse_unless_owed(caller, seconds)
        own = self._own.get(caller)
        if own is None:
            self._own[caller] = _Part(seconds)
        else:
            own.count += 1
            own.seconds += seconds
        self.count += 1
        self.seconds += seconds

    def release(self, caller: str, seconds: float) -> None:
        """Lets a request out that was admitted."""
        own = self._own[caller]
        if own.count > 1:
            own.count -= 1
            own.seconds -= seconds
        else:
            del self._own[caller]
        self.count -= 1
        self.seconds = self.seconds - seconds if self.count else 0.0

    def _refuse_unless_owed(self, caller: str, seconds: float) -> None:
        if not self.count:
            return
        own = self._own.get(caller)
        callers = len(self._own) + (own is None)
        most, most_seconds = self._most / callers, self._most_seconds / callers
        owed = own is None or (own.count < most and own.seconds + seconds <= most_seconds)
        if callers > 1 and owed and self.count < 2 * self._most and self.seconds < 2 * self._most_seconds:
            return
        self._refusing = True
        retry_after = min(max(1, math.ceil(self.seconds / self._cores)), _LONGEST_RETRY)
        if callers > 1 and own is not None and (own.count > most or own.seconds > most_seconds):
            raise ShareExceeded("others wait, too, and this caller has more than its share of the queue", retry_after)
        raise QueueFull("as much work as may is waiting already", retry_after)
