"""What the worker processes of one service agree on: which versions are served, and who looks after the store.

There is one list, numbered by its generation, in a file without a name that all inherit. A process says which
generation it serves by a lock on that byte of the file: one look tells whether anybody is behind, and the kernel
forgets a process that died. Knows nothing of how versions are loaded, or of HTTP.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import orjson

# The file: a head with the generation, and the place and the length of the list; then two areas for lists. A new one is
# written where the other is not, and the head last, at once: whoever dies on the way leaves what was agreed before.
_HEAD = struct.Struct(">QQQ")
# Areas begin so far apart; the file has holes, and takes no more memory than what is written.
_AREA = 2**26
# Bytes whose locks are held by who changes the list, and by who leads; those between are generations.
_CHANGING, _LEADING = 0, 2**62


class Asked(NamedTuple):
    """A version is to be served: the generation in which that was last asked, and what its files look like."""

    since: int
    stamp: str = ""


class Listed(NamedTuple):
    """What is to be served of a model: its versions, oldest first, and which of them by default; None: the newest."""

    versions: Mapping[str, Asked]
    pinned: str | None = None


Models = Mapping[str, Listed]
# From the number of a new generation and what was agreed to what shall be.
Edit = Callable[[int, Models], Models]


class Agreed(NamedTuple):
    """What is agreed: a generation, and its models by name."""

    generation: int
    models: Models


class Agreement(Protocol):
    """How processes agree: `Alone` with itself, `Shared` with those that are forked from the one that made it."""

    @property
    def generation(self) -> int:
        """The number of what is agreed by now; 0 before anybody joined."""

    def join(self, first: Edit) -> Agreed:
        """What is agreed; the first to ask begins the list. From here on the others wait for this process."""

    def leave(self) -> None:
        """The others wait for this process no longer, and another may lead."""

    def lead(self) -> bool:
        """Whether this process is the one that looks after the store; the first to ask is, until it leaves or dies."""

    def current(self) -> Agreed:
        """What is agreed by now."""

    def change(self, edit: Edit) -> Agreed:
        """Agrees on something else, or on what is agreed already where the edit leaves it as it is."""

    def reach(self, generation: int) -> None:
        """Says that this process serves that generation."""

    def all_reached(self, generation: int) -> bool:
        """Whether every process does, or a later one; a yes is sure, and a no is to be asked again."""


class Alone:
    """One process that agrees with itself."""

    def __init__(self) -> None:
        self._agreed = Agreed(0, {})

    @property
    def generation(self) -> int:
        """See `Agreement`."""
        return self._agreed.generation

    def join(self, first: Edit) -> Agreed:
        """See `Agreement`."""
        self._agreed = Agreed(1, first(1, {}))
        return self._agreed

    def leave(self) -> None:
        """See `Agreement`."""

    def lead(self) -> bool:
        """See `Agreement`."""
        return True

    def current(self) -> Agreed:
        """See `Agreement`."""
        return self._agreed

    def change(self, edit: Edit) -> Agreed:
        """See `Agreement`."""
        self._agreed = _changed(self._agreed, edit)
        return self._agreed

    def reach(self, generation: int) -> None:
        """See `Agreement`."""

    def all_reached(self, generation: int) -> bool:  # noqa: ARG002 - others need it
        """See `Agreement`."""
        return True


class Shared:
    """Made once, before processes are forked; each of them then speaks for itself."""

    def __init__(self) -> None:
        # To close any descriptor of this file gives up all locks that the process has on it: there is only this one.
        self._file = _nameless_file()
        self._threads = threading.Lock()  # locks on files are between processes alone
        self._reached = 0
        os.pwrite(self._file, _HEAD.pack(0, 0, 0), 0)

    @property
    def generation(self) -> int:
        """See `Agreement`. Reads a few bytes, and waits for nobody."""
        return self._head()[0]

    def join(self, first: Edit) -> Agreed:
        """See `Agreement`."""
        with self._changing():
            agreed = self._read()
            if agreed.generation == 0:
                agreed = Agreed(1, first(1, {}))
                self._write(agreed)
            # While nobody can change the list, so that no change misses us.
            self.reach(agreed.generation)
        return agreed

    def leave(self) -> None:
        """See `Agreement`."""
        self._lock(fcntl.LOCK_UN, _LEADING)
        self._stay_behind()

    def lead(self) -> bool:
        """See `Agreement`. Who has that lock gets it again."""
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB, _LEADING)
        except OSError:
            return False
        return True

    def current(self) -> Agreed:
        """See `Agreement`."""
        with self._changing():
            return self._read()

    def change(self, edit: Edit) -> Agreed:
        """See `Agreement`."""
        with self._changing():
            before = self._read()
            agreed = _changed(before, edit)
            if agreed is not before:
                self._write(agreed)
        return agreed

    def renew(self, edit: Edit) -> None:
        """Puts what the edit makes of nothing in the place of the list, for processes that join from now on.

        Those that are there are about to be replaced, and go on as they are; with the next change all have one list.
        """
        with self._changing():
            generation = self._read().generation
            if generation:  # else the first to join looks for itself
                self._write(Agreed(generation, edit(generation, {})))

    def reach(self, generation: int) -> None:
        """See `Agreement`."""
        if generation != self._reached:
            self._lock(fcntl.LOCK_SH, generation)
            self._stay_behind()
            self._reached = generation

    def all_reached(self, generation: int) -> bool:
        """See `Agreement`. Where this process is behind itself, the answer is no."""
        if self._reached < generation:
            return False
        earlier = generation - 1
        if earlier == 0:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, earlier, 1)
        except OSError:  # somebody holds one of them, or asks just now
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, earlier, 1)
        return True

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._threads:
            self._lock(fcntl.LOCK_EX, _CHANGING)
            try:
                yield
            finally:
                self._lock(fcntl.LOCK_UN, _CHANGING)

    def _read(self) -> Agreed:
        generation, place, length = self._head()
        models = orjson.loads(os.pread(self._file, length, place)) if length else {}
        return Agreed(
            generation,
            {
                name: Listed({version: Asked(*asked) for version, asked in versions.items()}, pinned)
                for name, (versions, pinned) in models.items()
            },
        )

    def _write(self, agreed: Agreed) -> None:
        models = orjson.dumps(
            {
                name: ({version: tuple(asked) for version, asked in listed.versions.items()}, listed.pinned)
                for name, listed in agreed.models.items()
            }
        )
        place = 2 * _AREA if self._head()[1] == _AREA else _AREA
        os.pwrite(self._file, models, place)
        os.pwrite(self._file, _HEAD.pack(agreed.generation, place, len(models)), 0)

    def _head(self) -> tuple[int, int, int]:
        generation, place, length = _HEAD.unpack(os.pread(self._file, _HEAD.size, 0))
        return generation, place, length

    def _stay_behind(self) -> None:
        """Serves no generation, as far as others are concerned."""
        if self._reached:
            self._lock(fcntl.LOCK_UN, self._reached)
            self._reached = 0

    def _lock(self, kind: int, byte: int) -> None:
        fcntl.lockf(self._file, kind, 1, byte)


def _nameless_file() -> int:
    """In memory where the system has such files, else one that is gone from its directory already."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("penumbra-agreement")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _changed(agreed: Agreed, edit: Edit) -> Agreed:
    generation = agreed.generation + 1
    models = edit(generation, agreed.models)
    return agreed if models == agreed.models else Agreed(generation, models)
