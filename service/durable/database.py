"""The database in which DBOS keeps what is to be done: SQLite beside the files, or Postgres. From any process.

Nothing of what is in it is a pickle. Knows nothing of files and HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, error
from sqlalchemy.exc import SQLAlchemyError

from service.errors import Unavailable

logger = logging.getLogger(__name__)

SERIALIZER = DBOSPortableJSONSerializer()
_SQLITE = "sqlite:///"
QUEUE = WORKFLOW = "score"
# Of the steps that a job takes: a job that an earlier release began is gone on with as long as this stays.
STEPS_VERSION = "1"

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_STATES = {
    "DELAYED": WAITING,
    "ENQUEUED": WAITING,
    "PENDING": RUNNING,
    "SUCCESS": DONE,
    "ERROR": FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": FAILED,
    "CANCELLED": CANCELLED,
}
# SQLite takes no more than so many values in one question, by default 32,766.
_AT_ONCE = 1000
BUG = "an internal error; the log of `python -m service jobs` says which"


class Standing(NamedTuple):
    """What became of a job so far: why it failed, and chunks and rows once it is done."""

    state: str
    error: str = ""
    chunks: int = 0
    rows: int = 0


def url_of(directory: Path, database: str) -> str:
    """Where the database is: what a setting says, else a file beside the jobs."""
    return database or f"{_SQLITE}{directory.resolve() / 'jobs.sqlite'}"


def make_private(url: str) -> None:
    """Makes the file of SQLite, if there is none, as one that nobody else may read."""
    if url.startswith(_SQLITE):
        Path(url.removeprefix(_SQLITE)).touch(mode=0o600)


class Database:
    """What is to be done, and what became of it. Its methods wait for the database: not for an event loop.

    All raise Unavailable where there is no database to be had.
    """

    def __init__(self, url: str) -> None:
        self._url, self._lock = url, threading.Lock()
        self._made: DBOSClient | None = None

    def submit(self, name: str, owner: str) -> None:
        """Puts a job into the queue; a second time does nothing."""
        with _told():
            self._client().enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": name,
                    "app_version": STEPS_VERSION,
                    "authenticated_user": _user(owner),
                },
                name,
            )

    def standings(self, names: list[str]) -> dict[str, Standing]:
        """How each of these jobs stands, of those that are known."""
        found = []
        with _told():
            for first in range(0, len(names), _AT_ONCE):
                some = names[first : first + _AT_ONCE]
                found += self._client().list_workflows(workflow_ids=some, load_input=False)
        return {each.workflow_id: _standing(each.status, each.output) for each in found}

    def of(self, owner: str) -> dict[str, Standing]:
        """How all of somebody's jobs stand, the last one first."""
        with _told():
            found = self._client().list_workflows(user=_user(owner), sort_desc=True, load_input=False)
        return {each.workflow_id: _standing(each.status, each.output) for each in found}

    def cancel(self, name: str) -> None:
        """Stops a job before its next chunk, if it has not ended."""
        with _told():
            self._client().cancel_workflow(name)

    def forget(self, name: str) -> None:
        """Removes what is known of a job."""
        with _told():
            self._client().delete_workflow(name)

    def close(self) -> None:
        """Closes the connections."""
        if self._made is not None:
            self._made.destroy()

    def _client(self) -> DBOSClient:
        with self._lock:
            if self._made is None:
                # Whoever comes first makes the tables: jobs may be submitted before anybody works on them.
                make_private(self._url)
                DBOS.migrate(self._url)
                self._made = DBOSClient(
                    system_database_url=self._url, serializer=SERIALIZER, retry_connection_errors=False
                )
            return self._made


@contextmanager
def _told() -> Iterator[None]:
    """Failures of the database in the domain's word, without its address: that may have a password."""
    try:
        yield
    except (SQLAlchemyError, error.DBOSException, OSError) as failure:
        logger.warning("the database of jobs can't be reached: %s", type(failure).__name__)
        raise Unavailable("the database of jobs can't be reached", retry_after=5) from None


def _user(owner: str) -> str:
    return f"key:{owner}"


def _standing(status: str, output: object) -> Standing:
    """A job that could not be done has ended well for DBOS, with what was wrong as its output."""
    told = output if isinstance(output, dict) else {}
    state = FAILED if "error" in told else _STATES[status]
    error = str(told.get("error", BUG)) if state == FAILED else ""
    return Standing(state, error, int(told.get("chunks", 0)), int(told.get("rows", 0)))
