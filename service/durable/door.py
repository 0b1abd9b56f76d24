"""How jobs get in: of one caller's no more than may be, however many come at once, and by whatever process.

Knows nothing of what is in them, or of HTTP.
"""

from __future__ import annotations

import fcntl
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.durable import files
from service.durable.database import RUNNING, WAITING, Database
from service.durable.files import Asked, Folder
from service.errors import NotApplicable, QueueFull, Unavailable

_RETRY_SECONDS = 60

logger = logging.getLogger(__name__)


class Door:
    """Lets in at most `active` jobs of one caller that are not done, and `kept` in all.

    Of these `active`, tables that are on their way to this process are counted by themselves.
    """

    def __init__(self, directory: Path, database: Database, active: int, kept: int) -> None:
        self._directory, self._database, self._active, self._kept = directory, database, active, kept
        self._coming: Counter[str] = Counter()

    @contextmanager
    def held(self, owner: str) -> Iterator[None]:
        """While a table is on its way; for one thread. Raises QueueFull, and Unavailable where it can't be kept."""
        if self._coming[owner] >= self._active:
            raise QueueFull(f"{self._active} tables of this caller are on their way; that is as many as may be", 1)
        self._coming[owner] += 1
        try:
            yield
        except OSError as failure:
            logger.warning("a table can't be kept: %s", failure)
            raise Unavailable(f"the table can't be kept: {failure.strerror}", _RETRY_SECONDS) from None
        finally:
            self._coming[owner] -= 1
            if not self._coming[owner]:
                del self._coming[owner]

    def look(self, owner: str) -> None:
        """Whether there is room for one more. Raises QueueFull, NotApplicable or Unavailable."""
        states = [standing.state for standing in self._database.of(owner).values()]
        active = sum(state in (WAITING, RUNNING) for state in states)
        if active >= self._active:
            raise QueueFull(f"{active} jobs of this caller are not done yet; that is as many as may be", _RETRY_SECONDS)
        if len(states) >= self._kept:
            raise NotApplicable(f"{len(states)} jobs of this caller are kept, as many as may be: forget one first")

    def enter(self, folder: Folder, asked: Asked, name: str) -> Folder:
        """Makes a job of what has come, and puts it into the queue. Raises what `look` does.

        Where there is a job of this name, it is that one. Otherwise it looks again, while nobody else is let in.
        """
        with (self._directory / "door").open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)  # as long as the file is open
            if files.find(self._directory, name) is None:
                self.look(asked.owner)
            job = folder.accept(asked, self._directory, name)
            try:
                self._database.submit(job.id, asked.owner)
            except BaseException:
                if not name:  # with a name it can be asked for again
                    job.remove()
                raise
            return job
