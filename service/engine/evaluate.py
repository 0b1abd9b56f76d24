"""Queries through a compiled network: the prefix once, then tiles of (sample, row) pairs through the other layers.

An Evaluation is a list of stages; a stage is a list of independent pieces of work, each a few milliseconds long,
that may run in any order and on any thread. How the work is cut never changes an answer's bits: every product is
filled up by the network's row plan, and every operation runs on one thread. Knows nothing of queues or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from models.features import Float32
from service.engine.masks import random_lanes
from service.engine.plan import Drop, Network, padded_width
from service.engine.query import Committee, Query
from service.engine.tiles import ActiveUnits, Masks, Workspace, active_units, through

# (sample, row) pairs per tile: activations of common widths stay in the second-level cache.
TILE_PAIRS = 512
# The most arithmetic in one piece of work, so that no request holds a thread for more than about 20 ms.
PIECE_FLOPS = 1_000_000_000
# Below this a piece is not worth handing to another thread.
SPLIT_FLOPS = 20_000_000

Piece: TypeAlias = Callable[[Workspace], None]


def use_one_thread() -> None:
    """Every torch operation of this process runs on the thread that calls it; tiles are what runs in parallel.

    Not a matter of speed alone: kernels that split a tensor over threads may give other bits at the seams.
    """
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


class Evaluation:
    """One query's way through one network.

    `outputs` holds the head's outputs once all stages are done: [samples, rows, outputs] float32, for the full
    network with a single sample. `threads` is how many may work on it; `dense` pins one way of evaluation for
    requests of any size.
    """

    def __init__(self, network: Network, query: Query, threads: int = 1, *, dense: bool = False) -> None:
        self._network = network
        self._rows = query.rows
        self._committee = query.committee
        self._threads = threads
        self._dense = dense
        self._cut = network.cut(query.committee.p if query.committee else 0.0)
        samples = query.committee.samples if query.committee else 1
        self.outputs: Float32 = np.empty((samples, len(query.rows), network.outputs), np.float32)
        # What the prefix leaves for all samples to share: x [rows, width] and what residual blocks still hold.
        self._shared: list[Tensor] = []
        self._active: ActiveUnits | None = None

    def stages(self) -> Sequence[Sequence[Piece]]:
        """The work, in order; within a stage in any order."""
        if self._committee is None or not self._cut.after:
            return [self._prefix_pieces()]
        return [self._prefix_pieces(), self._tile_pieces(self._committee)]

    def _prefix_pieces(self) -> list[Piece]:
        if self._cut.after:
            self._shared = [torch.empty(len(self._rows), self._cut.width) for _ in range(1 + self._cut.kept)]
        return [partial(self._run_prefix, rows) for rows in _runs(len(self._rows), _pairs_per_piece(self._network))]

    def _run_prefix(self, rows: slice, workspace: Workspace) -> None:
        count, inputs = rows.stop - rows.start, self._network.inputs
        x = workspace.take(0, self._network.row_plan.padded(count), padded_width(inputs)).zero_()
        x.numpy()[:count, :inputs] = self._rows[rows]
        kept: list[Tensor] = []
        x = through(self._cut.before, x, (1, count), None, kept, workspace)
        if not self._cut.after:
            self.outputs[:, rows] = x[:count, : self._network.outputs].numpy()
            return
        for shared, part in zip(self._shared, (x, *kept), strict=True):
            shared[rows] = part.view(-1, part.shape[-1])[:count]
        if len(self._rows) == 1 and not self._dense:
            self._active = active_units(self._shared[0][0], self._cut.after)

    def _tile_pieces(self, committee: Committee) -> list[Piece]:
        rows, pairs = len(self._rows), _pairs_per_piece(self._network)
        samples = max(1, pairs // rows)
        if self._threads > 1:
            # Cores that would idle get a share, where a share is worth the hand-over.
            worth = max(1, SPLIT_FLOPS // max(1, self._network.flops_per_row * rows))
            samples = min(samples, max(worth, -(-committee.samples // self._threads)))
        tiles = product(_runs(committee.samples, samples), _runs(rows, pairs))
        return [partial(self._run_tile, committee, *tile) for tile in tiles]

    def _run_tile(self, committee: Committee, samples: slice, rows: slice, workspace: Workspace) -> None:
        network = self._network
        shape = samples.stop - samples.start, rows.stop - rows.start
        pairs = shape[0] * shape[1]
        lanes = random_lanes(committee.seed, committee.first_sample + samples.start, shape[0], network.site_widths)
        masks = Masks(lanes, self._cut, workspace)
        first, *following = self._cut.after
        assert isinstance(first, Drop), "the first step after the prefix is an active dropout site. This is a bug."
        mask = masks.of(first.site)
        assert mask is not None, "a site that keeps all is part of the prefix. This is a bug."
        shared, *kept = (part[rows] for part in self._shared)  # [rows, width]
        if self._active is not None:
            shared, mask = self._active.x, mask.index_select(1, self._active.units)
            following[0] = self._active.product
        width = mask.shape[1]
        x = workspace.take(0, network.row_plan.padded(pairs), shared.shape[1])
        if len(x) > pairs:
            x[pairs:].zero_()
        if x.shape[1] > width:
            x[:, width:].zero_()
        torch.mul(shared[:, :width], mask[:, None], out=x[:pairs].view(*shape, -1)[..., :width])
        kept = [part[None] for part in kept]
        x = through(following, x, shape, masks, kept, workspace, masks.scale(first.site))
        self.outputs[samples, rows] = x[:pairs, : network.outputs].view(*shape, -1).numpy()


def evaluate(network: Network, query: Query, *, dense: bool = False) -> Float32:
    """A query's outputs, [samples, rows, outputs], on the calling thread alone."""
    evaluation, workspace = Evaluation(network, query, dense=dense), Workspace()
    for stage in evaluation.stages():
        for piece in stage:
            piece(workspace)
    return evaluation.outputs


def _runs(count: int, size: int) -> list[slice]:
    """0 … count in runs of at most `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _pairs_per_piece(network: Network) -> int:
    plan = network.row_plan
    if plan.kind == "fixed":
        return plan.rows
    return max(plan.rows, min(TILE_PAIRS, PIECE_FLOPS // max(1, network.flops_per_row)))
