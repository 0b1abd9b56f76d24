"""Answers as they were written, remembered in this process; bounded in bytes.

Most questions are asked once. Cheap answers go through a small entrance, in which newer ones soon replace them, and get
further only when they are asked for again: a stream of questions that never return neither drives out what does, nor
touches memory that is not in the processor's own. Lives on the event loop. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

# What Python takes for an entry besides its key and its body: their headers, the tuple, two places in a dictionary.
_ENTRY_BYTES = 400
# No answer may take more than this part of the room: a few of that size would drive out all others. Nor may the
# entrance.
_LARGEST_PART = 8
# The entrance: so many answers, none larger than this.
_ENTRANCE, _SMALL_BYTES = 256, 2048
_PLACE_BYTES = _SMALL_BYTES + _ENTRY_BYTES + 64  # and a key


class Written(NamedTuple):
    """An answer's body; `text` is the length of its JSON where bytes follow it."""

    body: bytes
    text: int | None = None


class Memory:
    """Least recently used answers go first. `evictions` are those that have gone so far, but for the entrance's."""

    def __init__(self, max_bytes: int) -> None:
        self.evictions = 0
        self._kept: OrderedDict[bytes, Written] = OrderedDict()
        self._kept_bytes = 0
        self._largest = max_bytes // _LARGEST_PART
        # The keys in the entrance, in a ring; one that went further has left its place there.
        self._ring: list[bytes] = [b""] * min(_ENTRANCE, self._largest // _PLACE_BYTES)
        self._place = 0
        self._entered: dict[bytes, Written] = {}
        self._room = max_bytes - len(self._ring) * _PLACE_BYTES

    @property
    def taken(self) -> int:
        """Bytes that all of it takes, about."""
        return self._kept_bytes + sum(_size(key, written) for key, written in self._entered.items())

    def get(self, key: bytes) -> Written | None:
        """The answer that was kept under this key."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        found = self._entered.pop(key, None)
        if found is not None:
            self._keep(key, found)
        return found

    def put(self, key: bytes, written: Written, *, dear: bool) -> None:
        """Keeps an answer, unless it is too large; under its key there must be none.

        A `dear` one, or a long one, need not be asked for twice to be worth its room.
        """
        if dear or not self._ring or len(written.body) > _SMALL_BYTES:
            self._keep(key, written)
            return
        place = self._place
        self._entered.pop(self._ring[place], None)
        self._ring[place] = key
        self._entered[key] = written
        self._place = (place + 1) % len(self._ring)

    def clear(self) -> None:
        """Forgets all answers."""
        self._kept.clear()
        self._entered.clear()
        self._kept_bytes = 0

    def _keep(self, key: bytes, written: Written) -> None:
        size = _size(key, written)
        if size > self._largest:
            return
        self._kept[key] = written
        self._kept_bytes += size
        while self._kept_bytes > self._room:
            self._kept_bytes -= _size(*self._kept.popitem(last=False))
            self.evictions += 1


def _size(key: bytes, written: Written) -> int:
    return len(key) + len(written.body) + _ENTRY_BYTES
