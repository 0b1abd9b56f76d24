"""The ways of evaluating what lies behind the first dropout site: all units in tiles, one wide row, or thinned.

Each is made for the rows of one evaluation, is handed what the prefix leaves (`keep`), and then evaluates samples of
queries, any part on any thread (`run`). `cost` chooses between them. Knows nothing of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from service.engine.cost import Way
from service.engine.plan import Cut, Drop, Network
from service.engine.row import Row
from service.engine.thinned import Thinned
from service.engine.tiles import Kept, Layout, Masks, Run, Tile, Workspace, through


class Evaluator(Protocol):
    """One way."""

    @property
    def pairs_per_tile(self) -> int:
        """The most pairs in one call of `run`, unless a single sample of a single row has more."""

    def __init__(self, network: Network, cut: Cut, rows: int) -> None: ...

    def keep(self, rows: slice, x: Tensor, kept: Sequence[Tensor]) -> None:
        """Takes what the prefix leaves for these rows: x and what residual blocks remember, [rows, width] each."""

    def run(self, tile: Tile, workspace: Workspace) -> None:
        """Evaluates a tile."""


class Tiles:
    """All units of all queries in common products: what is dropped is multiplied by 0."""

    def __init__(self, network: Network, cut: Cut, rows: int) -> None:
        self._network, self._cut = network, cut
        self.pairs_per_tile = network.pairs_per_tile
        # What all samples share: x, and what residual blocks remember.
        self._shared = (
            [torch.empty(rows, cut.width, device=network.device) for _ in range(1 + cut.kept)] if cut.after else []
        )

    def keep(self, rows: slice, x: Tensor, kept: Sequence[Tensor]) -> None:
        """Takes what the prefix leaves."""
        for shared, part in zip(self._shared, (x, *kept), strict=True):
            shared[rows] = part

    def run(self, tile: Tile, workspace: Workspace) -> None:
        """Evaluates a tile of any queries."""
        network = self._network
        layout = Layout([Run(len(list(alike)), *size) for size, alike in groupby(tile.sizes)])
        masks = Masks(tile.kept, self._cut, workspace, network.device)
        first, *following = self._cut.after
        assert isinstance(first, Drop), "the first step after the prefix is an active dropout site. This is a bug."
        mask = masks.of(first.site)
        assert mask is not None, "a site that keeps all is part of the prefix. This is a bug."
        shared, *remembered = (part[tile.rows] for part in self._shared)
        x = workspace.take(0, network.row_plan.padded(layout.pairs), shared.shape[1], network.device)
        if x.size(0) > layout.pairs:
            x[layout.pairs :].zero_()
        layout.spread(shared, mask, x)
        open_blocks = [Kept(part, shared=True) for part in remembered]
        x = through(following, x, layout, masks, open_blocks, workspace, masks.scale(first.site))
        tile.out[:] = x[: layout.pairs, : network.outputs].numpy(force=True)


WAYS: Mapping[Way, type[Evaluator]] = {"tiles": Tiles, "row": Row, "thinned": Thinned}
