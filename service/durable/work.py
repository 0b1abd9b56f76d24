"""A job as steps that DBOS remembers: one for each chunk, which becomes a part on disk, and one for the whole.

A step that was remembered is not taken again. One that was not, for its process was killed in between, finds its part
on disk, if there is one: so no chunk that is done is ever computed again. Parts are made by `penumbra.scoring`, like
those of `penumbra score`, which has the same result to the byte. Knows nothing of queues and processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dbos import DBOS

from penumbra.client import Client
from penumbra.errors import ModelChanged, PenumbraError
from penumbra.inputs import Inputs
from penumbra.scoring.job import Job, Parts, planned
from penumbra.scoring.tables import Batch, opened
from service.durable import files
from service.durable.database import WORKFLOW
from service.durable.files import Folder

# More than anybody restarts a worker in the time of a chunk.
_MOST_TRIES = 5

logger = logging.getLogger(__name__)


class Scoring:
    """One job in this process. Raises TableError, or what the client raises."""

    def __init__(self, client: Client, folder: Folder) -> None:
        asked = folder.asked()
        job = Job(
            asked.model,
            asked.version,
            asked.options,
            keep=asked.keep,  # type: ignore[arg-type]  # checked when it came
            missing=asked.missing,  # type: ignore[arg-type]
            batch_rows=asked.chunk_rows,
        )
        self._client, self._result = client, folder.result(asked.kind)
        self._parts, self._table = Parts(self._result), opened(folder.table(asked.kind))
        told = self._parts.told()
        self._work = planned(client, job, self._table, self._result, told)
        if self._work.known.digest != asked.digest:
            raise ModelChanged(f"{asked.model} {asked.version} was replaced since the job was submitted")
        if not self._result.exists():
            self._parts.begin(self._work.stamped(self._table), told)
        self._batches: Iterator[Batch] = iter(())
        self._next = -1

    def chunk(self, number: int) -> int:
        """Makes a part, unless it is there: its rows; 0 where the table has ended."""
        if found := self._parts.done().get(number):
            return found[0]
        batch = self._batch(number)
        if batch is None:
            return 0
        part = self._work.part(self._client, batch)
        self._parts.add(self._work, part)
        logger.info("job %s: chunk %d of %d rows is done", self._result.parent.name, number, part.rows)
        return part.rows

    def finish(self) -> None:
        """Makes the result of the parts, unless it is there."""
        if self._result.exists():
            self._parts.remove()
        else:
            self._parts.finish(self._work.names)

    def _batch(self, number: int) -> Batch | None:
        """The rows of a chunk. Those before it are whole; they are read again only by who begins in the middle."""
        if number != self._next:
            size = self._work.job.batch_rows
            inputs = Inputs(self._work.known.inputs)
            self._batches = self._table.batches(size, inputs, self._work.keep, skip=number * size)
        self._next = number + 1
        return next(self._batches, None)


def define(client: Client, directory: Path) -> None:
    """Tells DBOS of the workflow, before it is launched."""

    @DBOS.workflow(name=WORKFLOW)
    def score(name: str) -> dict[str, Any]:
        """All chunks of a job in turn, and the whole; as JSON, what became of it."""
        folder = files.find(directory, name)
        if folder is None:
            return {"error": "its files are gone"}
        made: list[Scoring] = []

        def scoring() -> Scoring:
            if not made:
                made.append(Scoring(client, folder))
            return made[0]

        def chunk(number: int) -> int:
            return scoring().chunk(number)

        number = rows = 0
        while True:
            done = _step(folder, "chunk", partial(chunk, number), number)
            if "error" in done:
                return done
            if not done["rows"]:
                break
            number, rows = number + 1, rows + int(done["rows"])
        if not rows:
            return {"error": "the table has no rows"}
        done = _step(folder, "finish", lambda: scoring().finish())
        return done if "error" in done else {"rows": rows, "chunks": number}


def _step(folder: Folder, name: str, take: Callable[[], int | None], number: int = 0) -> dict[str, Any]:
    """A step that ends well even where the job can't be done: what is wrong with a table is for ever.

    So is what ended the process each time that it was begun: others wait.
    """

    def taken() -> dict[str, Any]:
        if folder.tries(f"{name} {number}") > _MOST_TRIES:
            return {"error": f"{name} {number} was begun {_MOST_TRIES} times, and the process ended each time"}
        try:
            return {"rows": take()}
        except MemoryError:
            return {"error": "it takes more memory than a job may"}
        except (PenumbraError, OSError) as error:
            # It is about files of the service's own, whose places are nobody's business.
            return {"error": str(error).replace(f"{folder.home}/", "")}

    return DBOS.run_step({"name": name}, taken)
