"""What every evaluation of queries offers: pieces of work for whoever has threads, and then outputs.

Knows nothing of how they come about.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from models.features import Float32
from service.engine.plan import Cut, Network
from service.engine.query import Query
from service.engine.workspace import Workspace

# Below this a piece is not worth handing to another thread.
SPLIT_FLOPS = 20_000_000

Piece: TypeAlias = Callable[[Workspace], None]


class Evaluation(ABC):
    """One or several queries' way through one network, as a list of stages.

    A stage is a list of independent pieces of work, each a few milliseconds long, that may run in any order and on any
    thread. Neither company nor how the work is cut changes an answer's bits.

    Queries that share an evaluation are all predictions, or all committees with the same what-if p. `outputs` holds
    the head's outputs once all stages are done, [pairs, outputs] float32: the queries one after the other, each in the
    order samples × rows; without active dropout there is a single sample. `threads` is how many may work on it.
    """

    def __init__(self, network: Network, queries: Sequence[Query], threads: int = 1, cut: Cut | None = None) -> None:
        committee = queries[0].committee
        self._network, self._queries, self._threads = network, queries, threads
        self._cut = cut or network.cut(committee.p if committee else 0.0)
        self._rows = queries[0].rows if len(queries) == 1 else np.concatenate([query.rows for query in queries])
        self.outputs: Float32 = np.empty((sum(map(self.pairs, queries)), network.outputs), np.float32)

    @abstractmethod
    def stages(self) -> Sequence[Sequence[Piece]]:
        """The work, in order; within a stage in any order."""

    def of(self, place: int) -> Float32:
        """The outputs of the query at this place: a view [samples, rows, outputs]."""
        before = sum(map(self.pairs, self._queries[:place]))
        query = self._queries[place]
        outputs = self.outputs[before : before + self.pairs(query)].reshape(-1, len(query.rows), self._network.outputs)
        samples = query.committee.samples if query.committee else 1
        return outputs if len(outputs) == samples else np.broadcast_to(outputs, (samples, *outputs.shape[1:]))

    def pairs(self, query: Query) -> int:
        """Pairs that are evaluated: without active dropout one sample stands for all."""
        samples = query.committee.samples if query.committee and self._cut.after else 1
        return samples * len(query.rows)

    def share(self, count: int, flops_each: float) -> int:
        """How many of `count` things a piece should have at most, so that no core idles that is worth waking."""
        worth = max(1, int(SPLIT_FLOPS / max(1.0, flops_each)))
        return count if self._threads == 1 else max(worth, -(-count // self._threads))


def runs(count: int, size: int) -> list[slice]:
    """0 … count in runs of at most `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
