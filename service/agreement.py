"""What the worker processes of one service agree on: which versions are to be served.

There is one list, in a file that is replaced as a whole and numbered: its generation. A process says which generation
it serves by a lock on that byte of another file, so that one look tells whether anybody is behind, and the kernel
forgets a process that died. Knows nothing of how versions are loaded, or of HTTP.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

from service.errors import NotApplicable

_LIST, _LOCKS = "served.json", "locks"
_CHANGING = 0  # the byte whose lock is held by who changes the list; generations begin at 1


class Listed(NamedTuple):
    """The versions of a model that are to be served, oldest first, and the generation in which that was last asked."""

    versions: tuple[str, ...]
    since: int = 1


class Agreed(NamedTuple):
    """What is agreed: a generation, and its models by name."""

    generation: int
    models: Mapping[str, Listed]


class Agreement(Protocol):
    """How processes agree: `Alone` needs nothing for it, `Shared` a directory, and `Divided` ones can't."""

    def join(self, first: Callable[[], Mapping[str, Listed]]) -> Agreed:
        """What is agreed; who is the first to ask begins the list. From here on the others wait for this process."""

    def current(self) -> Agreed:
        """What is agreed by now."""

    def change(self, name: str, versions: tuple[str, ...]) -> Agreed:
        """Agrees on the versions of one model. Raises NotApplicable where nothing can be agreed."""

    def reach(self, generation: int) -> None:
        """Says that this process serves that generation."""

    def all_reached(self, generation: int) -> bool:
        """Whether every process does, or a later one."""


class Alone:
    """One process that agrees with itself."""

    def __init__(self) -> None:
        self._agreed = Agreed(0, {})

    def join(self, first: Callable[[], Mapping[str, Listed]]) -> Agreed:
        """See `Agreement`."""
        self._agreed = Agreed(1, first())
        return self._agreed

    def current(self) -> Agreed:
        """See `Agreement`."""
        return self._agreed

    def change(self, name: str, versions: tuple[str, ...]) -> Agreed:
        """See `Agreement`."""
        self._agreed = _changed(self._agreed, name, versions)
        return self._agreed

    def reach(self, generation: int) -> None:
        """See `Agreement`."""

    def all_reached(self, generation: int) -> bool:  # noqa: ARG002 - others need it
        """See `Agreement`."""
        return True


class Divided(Alone):
    """One of several processes that share nothing."""

    def change(self, name: str, versions: tuple[str, ...]) -> Agreed:  # noqa: ARG002 - as above
        """See `Agreement`. Raises NotApplicable."""
        raise NotApplicable("several worker processes have nowhere to agree: set a state directory, or workers to 1")


class Shared:
    """Processes that share a directory, which is theirs alone and empty at first. One of these in each process."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _LIST
        # To close any descriptor of this file gives up all locks that the process has on it: there is only this one.
        self._locks = os.open(directory / _LOCKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._threads = threading.Lock()  # locks on files are between processes alone
        self._reached = 0

    def join(self, first: Callable[[], Mapping[str, Listed]]) -> Agreed:
        """See `Agreement`."""
        with self._changing():
            if not self._path.exists():
                self._write(Agreed(1, first()))
            agreed = self.current()
            # While nobody can change the list, so that no change misses us.
            self.reach(agreed.generation)
        return agreed

    def current(self) -> Agreed:
        """See `Agreement`."""
        generation, models = orjson.loads(self._path.read_bytes())
        return Agreed(generation, {name: Listed(tuple(versions), since) for name, (versions, since) in models.items()})

    def change(self, name: str, versions: tuple[str, ...]) -> Agreed:
        """See `Agreement`."""
        with self._changing():
            agreed = _changed(self.current(), name, versions)
            self._write(agreed)
        return agreed

    def reach(self, generation: int) -> None:
        """See `Agreement`."""
        if generation != self._reached:
            self._lock(fcntl.LOCK_SH, generation)
            if self._reached:
                self._lock(fcntl.LOCK_UN, self._reached)
            self._reached = generation

    def all_reached(self, generation: int) -> bool:
        """See `Agreement`. Where this process is behind itself, the answer is no."""
        if self._reached < generation:
            return False
        earlier = generation - 1
        if earlier == 0:
            return True
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, earlier, 1)
        except OSError:  # somebody holds one of them
            return False
        fcntl.lockf(self._locks, fcntl.LOCK_UN, earlier, 1)
        return True

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._threads:
            self._lock(fcntl.LOCK_EX, _CHANGING)
            try:
                yield
            finally:
                self._lock(fcntl.LOCK_UN, _CHANGING)

    def _write(self, agreed: Agreed) -> None:
        models = {name: (listed.versions, listed.since) for name, listed in agreed.models.items()}
        aside = self._path.with_suffix(".new")
        aside.write_bytes(orjson.dumps((agreed.generation, models)))
        aside.replace(self._path)

    def _lock(self, kind: int, byte: int) -> None:
        fcntl.lockf(self._locks, kind, 1, byte)


def _changed(agreed: Agreed, name: str, versions: tuple[str, ...]) -> Agreed:
    generation = agreed.generation + 1
    models = {**agreed.models, name: Listed(versions, generation)}
    return Agreed(generation, dict(sorted(models.items())))
