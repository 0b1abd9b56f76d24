"""Queries through a compiled network: the prefix once, then tiles of (sample, row) pairs through the other layers.

An Evaluation answers one query, or several of a kind together. It is a list of stages; a stage is a list of independent
pieces of work, each a few milliseconds long, that may run in any order and on any thread. Neither company nor how the
work is cut changes an answer's bits: every product is filled up by the network's row plan, and every operation runs on
one thread. Knows nothing of queues or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch

from models.features import Float32
from service.engine import cost
from service.engine.cost import Way
from service.engine.mask_cache import KeptUnits, MaskCache
from service.engine.plan import Cut, Network, padded_width
from service.engine.query import Query
from service.engine.tiles import Kept, Layout, Run, Tile, Workspace, through
from service.engine.ways import WAYS

# Below this a piece is not worth handing to another thread.
SPLIT_FLOPS = 20_000_000

Piece: TypeAlias = Callable[[Workspace], None]


def use_one_thread() -> None:
    """Every torch operation of this process runs on the thread that calls it; tiles are what runs in parallel.

    Not a matter of speed alone: kernels that split a tensor over threads may give other bits at the seams.
    """
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def usable_device(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """The device to evaluate on; "auto" takes a GPU where there is one. Raises RuntimeError if there must be one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device is set to cuda, but PyTorch finds no GPU here: use auto or cpu")
    return wanted


class Part(NamedTuple):
    """Samples × rows of one query in a tile; `rows` are places among the rows of all queries."""

    seed: int
    first_sample: int
    samples: int
    rows: slice


class Evaluation:
    """One or several queries' way through one network.

    Queries that share an evaluation are all predictions, or all committees with the same what-if p, for which
    `cost.way` says "tiles". `outputs` holds the head's outputs once all stages are done, [pairs, outputs] float32: the
    queries one after the other, each in the order samples × rows; without active dropout there is a single sample.
    `threads` is how many may work on it, `way` pins how; by default `cost` decides.
    """

    def __init__(
        self,
        network: Network,
        queries: Sequence[Query],
        threads: int = 1,
        *,
        way: Way | None = None,
        cut: Cut | None = None,
        cache: MaskCache | None = None,
    ) -> None:
        committee = queries[0].committee
        self._network, self._queries, self._threads, self._cache = network, queries, threads, cache
        self._cut = cut or network.cut(committee.p if committee else 0.0)
        self._rows = queries[0].rows if len(queries) == 1 else np.concatenate([query.rows for query in queries])
        if way is None:
            way = cost.way(network, self._cut, len(self._rows)) if len(queries) == 1 else "tiles"
        self._way = WAYS[way](network, self._cut, len(self._rows))
        pairs = sum(map(self._pairs, queries))
        self.outputs: Float32 = np.empty((pairs, network.outputs), np.float32)

    def stages(self) -> Sequence[Sequence[Piece]]:
        """The work, in order; within a stage in any order."""
        prefix = [partial(self._run_prefix, rows) for rows in _runs(len(self._rows), self._network.pairs_per_tile)]
        return [prefix, self._tiles()] if self._cut.after else [prefix]

    def of(self, place: int) -> Float32:
        """The outputs of the query at this place: a view [samples, rows, outputs]."""
        before = sum(map(self._pairs, self._queries[:place]))
        query = self._queries[place]
        outputs = self.outputs[before : before + self._pairs(query)].reshape(-1, len(query.rows), self._network.outputs)
        samples = query.committee.samples if query.committee else 1
        return outputs if len(outputs) == samples else np.broadcast_to(outputs, (samples, *outputs.shape[1:]))

    def _pairs(self, query: Query) -> int:
        """Pairs that are evaluated: without active dropout one sample stands for all."""
        samples = query.committee.samples if query.committee and self._cut.after else 1
        return samples * len(query.rows)

    def _run_prefix(self, rows: slice, workspace: Workspace) -> None:
        network = self._network
        count = rows.stop - rows.start
        x = workspace.take(0, network.row_plan.padded(count), padded_width(network.inputs), network.device).zero_()
        if x.is_cpu:
            x.numpy()[:count, : network.inputs] = self._rows[rows]
        else:
            x[:count, : network.inputs] = torch.tensor(self._rows[rows], device=network.device)
        kept: list[Kept] = []
        x = through(self._cut.before, x, Layout([Run(1, 1, count)]), None, kept, workspace)
        if self._cut.after:
            self._way.keep(rows, x[:count], [part.x for part in kept])
        else:
            self.outputs[rows] = x[:count, : network.outputs].numpy(force=True)

    def _tiles(self) -> list[Piece]:
        """Queries packed into tiles, in order; one that has parts fills tiles of its own."""
        most = self._way.pairs_per_tile
        tiles: list[tuple[int, list[Part]]] = []  # the first pair, and the parts from there
        pair = row = room = 0
        for query in self._queries:
            parts = self._parts(query, row, most)
            for part in parts:
                pairs = part.samples * (part.rows.stop - part.rows.start)
                if pairs > room or len(parts) > 1:
                    tiles.append((pair, []))
                    room = most
                tiles[-1][1].append(part)
                pair, room = pair + pairs, room - pairs
            row += len(query.rows)
            room *= len(parts) == 1
        return [partial(self._run_tile, *tile) for tile in tiles]

    def _parts(self, query: Query, row: int, most: int) -> list[Part]:
        """A query in parts of at most so many pairs; its rows begin at `row`."""
        committee, rows = query.committee, len(query.rows)
        assert committee is not None, "the full network has no sites to cut at. This is a bug."
        if len(self._queries) > 1 and committee.samples * rows <= most:
            return [Part(committee.seed, committee.first_sample, committee.samples, slice(row, row + rows))]
        samples = max(1, most // rows)
        if self._threads > 1 and len(self._queries) == 1:
            # Cores that would idle get a share, where a share is worth the hand-over.
            worth = max(1, SPLIT_FLOPS // max(1, self._network.flops_per_row * rows))
            samples = min(samples, max(worth, -(-committee.samples // self._threads)))
        return [
            Part(
                committee.seed,
                committee.first_sample + some.start,
                some.stop - some.start,
                slice(row + part.start, row + part.stop),
            )
            for some in _runs(committee.samples, samples)
            for part in _runs(rows, most)
        ]

    def _run_tile(self, pair: int, parts: Sequence[Part], workspace: Workspace) -> None:
        kept = [self._kept(part, workspace) for part in parts]
        sizes = [(part.samples, part.rows.stop - part.rows.start) for part in parts]
        rows = slice(parts[0].rows.start, parts[-1].rows.stop)
        out = self.outputs[pair : pair + sum(samples * rows for samples, rows in sizes)]
        of_all = kept[0] if len(kept) == 1 else np.concatenate(kept)
        self._way.run(Tile(rows, sizes, of_all, out), workspace)

    def _kept(self, part: Part, workspace: Workspace) -> KeptUnits:
        """Which units each sample of a part keeps: [samples, lanes]."""
        wanted = part.seed, part.first_sample, part.samples

        def draw() -> KeptUnits:
            return workspace.stream.lanes(*wanted, self._network.site_widths) >= self._cut.thresholds

        return draw() if self._cache is None else self._cache.get((*wanted, self._cut.sites), draw)


def evaluate(network: Network, query: Query, *, way: Way | None = None) -> Float32:
    """A query's outputs, [samples, rows, outputs], on the calling thread alone."""
    evaluation, workspace = Evaluation(network, [query], way=way), Workspace()
    for stage in evaluation.stages():
        for piece in stage:
            piece(workspace)
    return evaluation.of(0)


def _runs(count: int, size: int) -> list[slice]:
    """0 … count in runs of at most `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
