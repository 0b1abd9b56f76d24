"""Numbers that worker processes count and any of them can read: pages of doubles in shared memory.

Each worker writes to pages of its own, so that an increment is one store and no lock; a reader adds up all pages. A
page lies in a file, which outlives its worker: what a worker has counted is not lost when it dies, and the next worker
to start takes the page over and counts on. A page whose worker lives is locked; the kernel unlocks it when the worker
ends, however it ends.

    16 bytes   the layout: what the numbers mean; pages of another layout are left alone
     8 bytes   how many bytes of text there are
     text      a line of JSON for each series: [family, labels, first number, count]
     numbers   doubles, zero until they are counted

Knows nothing of what is counted. Only one thread of a worker may write.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import orjson

PAGE_BYTES = 1 << 18
LAYOUT_BYTES = 16
_TEXT, _NUMBERS = LAYOUT_BYTES + 8, 1 << 16
_LENGTH = struct.Struct("<Q")

Key = tuple[str, tuple[str, ...]]


class Series(NamedTuple):
    """The numbers of a family with these labels on one page; `alive` says whether that page's worker is."""

    family: str
    labels: tuple[str, ...]
    values: Sequence[float]
    page: int
    alive: bool


class _Page:
    """One page that this process writes."""

    def __init__(self, memory: mmap.mmap, layout: bytes, number: int, file: int | None) -> None:
        self.number, self.file = number, file
        self._memory = memory
        self._numbers = memoryview(memory)[_NUMBERS:].cast("d")
        found = list(_entries(memory))
        self._text = _LENGTH.unpack_from(memory, LAYOUT_BYTES)[0]
        self._free = max((start + size for _, start, size in found), default=0)
        self.known = {key: self._numbers[start : start + size] for key, start, size in found}
        memory[:LAYOUT_BYTES] = layout  # last: until now no reader took it for a page

    def add(self, key: Key, size: int) -> memoryview[float] | None:
        """Room for a new series; None where there is none."""
        line = orjson.dumps([*key, self._free, size]) + b"\n"
        end = _TEXT + self._text + len(line)
        if end > _NUMBERS or self._free + size > len(self._numbers):
            return None
        self._memory[end - len(line) : end] = line
        self._text += len(line)
        self.known[key] = numbers = self._numbers[self._free : self._free + size]
        self._free += size
        _LENGTH.pack_into(self._memory, LAYOUT_BYTES, self._text)  # last, as above
        return numbers


class Board:
    """One worker's pages, and sight of all others' in the same directory; without one it is alone.

    `layout` names the meaning of the numbers in LAYOUT_BYTES bytes. Raises OSError where the directory can't be
    written or has no room.
    """

    def __init__(self, directory: Path | None, layout: bytes) -> None:
        self._directory, self._layout = directory, layout
        self._pages: list[_Page] = []
        self._claim()

    @property
    def number(self) -> int:
        """The worker's number: that of its first page. A worker that takes a page over takes its number over."""
        return self._pages[0].number

    def series(self, family: str, labels: tuple[str, ...] = (), size: int = 1) -> memoryview[float]:
        """The numbers of a family with these labels, to count on: a view of the page. As they were left, else 0."""
        if size > (PAGE_BYTES - _NUMBERS) // 8:
            raise ValueError(f"{family} has more numbers than a page")
        key = family, labels
        for page in self._pages:
            if (known := page.known.get(key)) is not None:
                return known
        added = self._pages[-1].add(key, size)
        while added is None:
            self._claim()
            added = self._pages[-1].known.get(key) or self._pages[-1].add(key, size)
        return added

    def read(self) -> Iterator[Series]:
        """Every series on every page, as it is now."""
        if self._directory is None:
            for page in self._pages:
                for (family, labels), values in page.known.items():
                    yield Series(family, labels, values.tolist(), page.number, alive=True)
            return
        for path in sorted(self._directory.glob("*.page")):
            with suppress(FileNotFoundError):
                yield from self._read(path)

    def close(self) -> None:
        """Gives the pages up: what was counted stays, and another worker may count on. Nothing may be counted after."""
        for page in self._pages:
            if page.file is not None:
                fcntl.flock(page.file, fcntl.LOCK_UN)  # the mapping holds the file open a little longer
                os.close(page.file)
                page.file = None

    def _read(self, path: Path) -> Iterator[Series]:
        file = os.open(path, os.O_RDONLY)
        try:
            content = os.pread(file, PAGE_BYTES, 0)
            alive = not _lock(file, fcntl.LOCK_SH)
        finally:
            os.close(file)
        if len(content) != PAGE_BYTES or content[:LAYOUT_BYTES] != self._layout:
            return
        numbers = memoryview(content)[_NUMBERS:].cast("d")
        for (family, labels), start, size in _entries(content):
            yield Series(family, labels, numbers[start : start + size].tolist(), int(path.stem), alive)

    def _claim(self) -> None:
        """A page more: one whose worker has died, or else a new one."""
        if self._directory is None:
            self._pages.append(_Page(mmap.mmap(-1, PAGE_BYTES), self._layout, len(self._pages), None))
            return
        for number in count():
            file = os.open(self._directory / f"{number}.page", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if self._may_have(file):
                    _reserve(file)
                    self._pages.append(_Page(mmap.mmap(file, PAGE_BYTES), self._layout, number, file))
                    return
            except OSError:
                os.close(file)
                raise
            os.close(file)

    def _may_have(self, file: int) -> bool:
        """Locks a page that nobody has and that is of this layout, or new."""
        if not _lock(file, fcntl.LOCK_EX):
            return False
        found = os.pread(file, LAYOUT_BYTES, 0)
        return found in (b"", bytes(LAYOUT_BYTES), self._layout)


def _entries(content: mmap.mmap | bytes) -> Iterator[tuple[Key, int, int]]:
    """The series on a page, with their first number and their count."""
    (length,) = _LENGTH.unpack_from(content, LAYOUT_BYTES)
    for line in content[_TEXT : _TEXT + length].splitlines():
        family, labels, start, size = orjson.loads(line)
        yield (family, tuple(labels)), start, size


def _reserve(file: int) -> None:
    """Makes room in the file system now: a store to memory that it then lacks would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, PAGE_BYTES)
    else:
        os.ftruncate(file, PAGE_BYTES)


def _lock(file: int, kind: int) -> bool:
    """Locks a file if nobody else has it; the lock goes with the file's closing."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
