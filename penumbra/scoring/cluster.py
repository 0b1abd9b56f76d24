"""Scoring by a Ray cluster: batches are read, asked and made parts of the result on whichever node has room.

Ray Data hands out the numbers of batches, and starts again what a worker that died had begun. What comes back are
parts, the same that any engine makes, so that how the work was cut can't be told from the result. Knows nothing of what
is asked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.data
from ray.exceptions import RayError

from penumbra.client import Client
from penumbra.errors import PenumbraError
from penumbra.inputs import Inputs
from penumbra.scoring.job import Part, Work
from penumbra.scoring.tables import TableError, is_parquet, opened

# Ray keeps an account of every block: of very long tables a block has several batches.
_MOST_BLOCKS = 2000


class Cluster:
    """An engine for `score`: asks with clients that `connect` makes on each node, so many at a time.

    The cluster is the one that RAY_ADDRESS names, else one that is started on this machine and ends with the work.
    `blocks` is how many pieces Ray Data handles, by default one for each batch; it changes nothing but the pace.
    """

    def __init__(self, connect: Callable[[], Client], concurrency: int = 4, blocks: int | None = None) -> None:
        self._connect, self._concurrency, self._blocks = connect, concurrency, blocks

    def __call__(self, work: Work, numbers: Sequence[int]) -> Iterator[Part]:
        """The parts with these numbers, as they are done. Raises TableError, or PenumbraError."""
        if not is_parquet(work.source):
            raise TableError(f"{work.source} is not Parquet: of others no row can be had without those before it")
        if not numbers:
            return
        begun = not ray.is_initialized()
        # Nobody is told that it was used, and the line that says how far it is, is ours.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            if begun:
                _begin()
            yield from self._parts(work, numbers)
        except (RayError, ConnectionError) as error:
            raise PenumbraError(f"Ray could not do it: {str(error).strip().splitlines()[-1]}") from None
        finally:
            if begun:
                ray.shutdown()

    def _parts(self, work: Work, numbers: Sequence[int]) -> Iterator[Part]:
        ray.data.DataContext.get_current().enable_progress_bars = False
        asked = ray.data.from_items(
            [{"number": number} for number in numbers],
            override_num_blocks=min(len(numbers), self._blocks or _MOST_BLOCKS),
        ).map(
            _Asker,
            fn_constructor_args=(self._connect, work),
            compute=ray.data.ActorPoolStrategy(size=min(self._concurrency, len(numbers))),
            # They wait for answers, and leave the cores to whoever works them out.
            num_cpus=0,
            scheduling_strategy="SPREAD",
        )
        for made in asked.iter_rows():
            if made["failure"]:
                raise (TableError if made["of_table"] else PenumbraError)(made["failure"])
            yield Part(int(made["number"]), int(made["rows"]), int(made["blank"]), {}, made["content"])


def _begin() -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts one. Raises PenumbraError."""
    try:
        # Not whatever cluster was last seen on this machine, as Ray would by itself.
        ray.init(os.environ.get("RAY_ADDRESS", "local"), log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # noqa: BLE001 - Ray raises what it likes here, a bare Exception among it
        raise PenumbraError(f"there is no Ray cluster to be had: {str(error).strip().splitlines()[0]}") from None


class _Asker:
    """One of the workers: reads a batch by its number, asks, and makes the part."""

    def __init__(self, connect: Callable[[], Client], work: Work) -> None:
        self._client, self._work, self._table = connect(), work, opened(work.source)

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A row of Ray's: what is wrong is a text in it, for a failure of ours is no reason to try again."""
        work, number = self._work, int(asked["number"])
        made = {"number": number, "rows": 0, "blank": 0, "content": b"", "failure": "", "of_table": False}
        size = work.job.batch_rows
        try:
            part = work.part(self._client, self._table.batch(number * size, size, Inputs(work.known.inputs), work.keep))
        except (PenumbraError, OSError) as error:
            return made | {"failure": str(error), "of_table": isinstance(error, TableError)}
        with TemporaryDirectory() as folder:
            path = Path(folder) / "part"
            work.write(part, path)
            return made | {"rows": part.rows, "blank": part.blank, "content": path.read_bytes()}
