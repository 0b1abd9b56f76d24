"""Queries through a network by PyTorch: the prefix once, then tiles of (sample, row) pairs through the other layers.

All units of all queries in common products: what is dropped is multiplied by 0. Neither company nor how the work is
cut changes an answer's bits: every product is filled up by the network's row plan, and every operation runs on one
thread. Knows nothing of queues or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch

from service.engine.evaluation import Evaluation, Piece, runs
from service.engine.mask_cache import KeptUnits, MaskCache
from service.engine.plan import Cut, Network, padded_width
from service.engine.query import Query
from service.engine.steps import Drop
from service.engine.tiles import Kept, Layout, Masks, Run, through
from service.engine.workspace import Workspace


class Part(NamedTuple):
    """Samples × rows of one query in a tile; `rows` are places among the rows of all queries."""

    seed: int
    first_sample: int
    samples: int
    step: int
    rows: slice


class Tiled(Evaluation):
    """An evaluation by PyTorch, on the processor or a GPU."""

    def __init__(
        self,
        network: Network,
        queries: Sequence[Query],
        threads: int = 1,
        cut: Cut | None = None,
        cache: MaskCache | None = None,
    ) -> None:
        super().__init__(network, queries, threads, cut)
        self._cache = cache
        rows = len(self._rows)
        # What all samples share: x, and what residual blocks remember.
        self._shared = (
            [torch.empty(rows, width, device=network.device) for width in (self._cut.width, *self._cut.kept)]
            if self._cut.after
            else []
        )

    def stages(self) -> Sequence[Sequence[Piece]]:
        """The prefix, then the tiles."""
        prefix = [partial(self._run_prefix, rows) for rows in runs(len(self._rows), self._network.pairs_per_tile)]
        return [prefix, self._tiles()] if self._cut.after else [prefix]

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
            for shared, own in zip(self._shared, (x[:count], *(part.x for part in kept)), strict=True):
                shared[rows] = own
        else:
            self.outputs[rows] = x[:count, : network.outputs].numpy(force=True)

    def _tiles(self) -> list[Piece]:
        """Queries packed into tiles, in order; one that has parts fills tiles of its own."""
        most = self._network.pairs_per_tile
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
            whole = slice(row, row + rows)
            return [Part(committee.seed, committee.first_sample, committee.samples, committee.step, whole)]
        samples = max(1, most // rows)
        if len(self._queries) == 1:
            samples = min(samples, self.share(committee.samples, self._network.flops_per_row * rows))
        return [
            Part(
                committee.seed,
                committee.first_sample + some.start * committee.step,
                some.stop - some.start,
                committee.step,
                slice(row + part.start, row + part.stop),
            )
            for some in runs(committee.samples, samples)
            for part in runs(rows, most)
        ]

    def _run_tile(self, pair: int, parts: Sequence[Part], workspace: Workspace) -> None:
        network = self._network
        kept = [self._kept(part, workspace) for part in parts]
        sizes = [(part.samples, part.rows.stop - part.rows.start) for part in parts]
        layout = Layout([Run(len(list(alike)), *size) for size, alike in groupby(sizes)])
        masks = Masks(kept[0] if len(kept) == 1 else np.concatenate(kept), self._cut, workspace, network.device)
        first, *following = self._cut.after
        assert isinstance(first, Drop), "the first step after the prefix is an active dropout site. This is a bug."
        mask = masks.of(first.site, first.times)
        assert mask is not None, "a site that keeps all is part of the prefix. This is a bug."
        rows = slice(parts[0].rows.start, parts[-1].rows.stop)
        shared, *remembered = (part[rows] for part in self._shared)
        x = workspace.take(0, network.row_plan.padded(layout.pairs), shared.shape[1], network.device)
        if x.size(0) > layout.pairs:
            x[layout.pairs :].zero_()
        layout.spread(shared, mask, x)
        open_blocks = [Kept(part, shared=True) for part in remembered]
        x = through(following, x, layout, masks, open_blocks, workspace, masks.scale(first.site))
        self.outputs[pair : pair + layout.pairs] = x[: layout.pairs, : network.outputs].numpy(force=True)

    def _kept(self, part: Part, workspace: Workspace) -> KeptUnits:
        """Which units each sample of a part keeps: [samples, lanes]."""
        wanted = part.seed, part.first_sample, part.samples, part.step

        def draw() -> KeptUnits:
            return workspace.stream.lanes(*wanted, self._network.site_widths) >= self._cut.thresholds

        return draw() if self._cache is None else self._cache.get((*wanted, self._cut.sites), draw)
