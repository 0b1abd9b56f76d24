"""A single row through a wide network: the first sampled product needs only the units that matter.

All samples of a row share its activations x before the first dropout site, and ReLU leaves about half of them at 0. So
the product x∘mask W is either taken from what it would be without dropping, x W, by subtracting the few units that were
dropped (small p), or computed from the units that are not 0 (large p). The steps after it are those of tiles. Knows
nothing of queries or of how samples are cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.engine.masks import kept_scale
from service.engine.plan import Cut, Drop, Network, Product, padded_width
from service.engine.tiles import MASK_SLOT, Layout, Masks, Run, Tile, Workspace, through

# Up to here subtracting is cheaper: a dropped unit costs three times as much as one in a product.
_SUBTRACT_UP_TO = 0.25


class Row:
    """One row's samples; see `ways.Evaluator`."""

    def __init__(self, network: Network, cut: Cut, rows: int) -> None:
        assert rows == 1, "this way is for a single row. This is a bug."
        first, product, *following = cut.after
        assert isinstance(first, Drop), "the first step after the prefix is an active dropout site. This is a bug."
        assert isinstance(product, Product), "`cost.way` sees to that. This is a bug."
        self.pairs_per_tile = network.pairs_per_tile
        self._network, self._cut, self._product, self._following = network, cut, product, following
        self._start, self._width, self._p = cut.sites[first.site]
        self._scale = kept_scale(self._p)

    def keep(self, rows: slice, x: Tensor, kept: Sequence[Tensor]) -> None:  # noqa: ARG002 - one row, no open block
        """Takes what the prefix leaves, [1, width]."""
        weight, bias = self._product.weight, self._product.bias
        values = x[0, : self._width] * self._scale
        self._active = values.numpy() != 0.0
        if self._p <= _SUBTRACT_UP_TO:
            self._values = values
            self._whole = torch.addmv(bias, weight[: self._width].t(), values)
        else:
            # Stable: active units in order, then as many others, whose products are exactly 0, as fill up the width.
            wanted = padded_width(int(np.count_nonzero(self._active)))
            self._units = np.argsort(~self._active, kind="stable")[:wanted]
            units = torch.from_numpy(self._units)
            self._values = values.index_select(0, units)
            self._weight = weight.index_select(0, units)

    def run(self, tile: Tile, workspace: Workspace) -> None:
        """Evaluates some samples."""
        ((samples, _),) = tile.sizes
        pairs = self._network.row_plan.padded(samples)
        x = workspace.take(0, pairs, self._product.weight.shape[1])
        here = tile.kept[:, self._start : self._start + self._width]
        if self._p <= _SUBTRACT_UP_TO:
            torch.sub(self._whole, self._dropped(here), out=x[:samples])
            if pairs > samples:
                x[samples:].zero_()
        else:
            self._from_active(here, x, workspace)
        layout = Layout([Run(1, samples, 1)])
        masks = Masks(tile.kept, self._cut, workspace, x.device)
        x = through(self._following, x, layout, masks, [], workspace)
        tile.out[:] = x[:samples, : self._network.outputs].numpy()

    def _dropped(self, kept: npt.NDArray[np.bool_]) -> Tensor:
        """What the dropped units would have added, [samples, outputs]: each sample's sum is its own."""
        # One pass over a flat array: a two-dimensional nonzero is eight times slower.
        flat = np.flatnonzero(self._active > kept)
        starts = np.arange(len(kept) + 1) * self._width
        offsets = np.searchsorted(flat, starts)
        units = torch.from_numpy(flat - np.repeat(starts[:-1], np.diff(offsets)))
        return torch.embedding_bag(
            self._product.weight,
            units,
            torch.from_numpy(offsets[:-1]),
            mode=0,  # sums
            per_sample_weights=self._values.index_select(0, units),
        )[0]

    def _from_active(self, kept: npt.NDArray[np.bool_], out: Tensor, workspace: Workspace) -> None:
        """The product over the active units alone, into out [pairs, outputs]."""
        samples = len(kept)
        x = workspace.take(MASK_SLOT, len(out), len(self._units))
        if len(x) > samples:
            x[samples:].zero_()
        torch.mul(self._values, torch.from_numpy(np.take(kept, self._units, axis=1)), out=x[:samples])
        torch.addmm(self._product.bias, x, self._weight, out=out)
