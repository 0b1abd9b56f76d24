"""Each sample's thinned network on its own: products of the kept units alone.

A sample's weights are gathered once and serve all rows, so it pays where rows are many or p is large: with p = 0.5 the
products between hidden layers shrink to a quarter. Activations are [units, rows] here, so that units are left out by
copying whole lines. Knows nothing of queries or of how samples are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.engine.masks import kept_scale
from service.engine.plan import LANES, PIECE_FLOPS, Activate, Cut, Drop, Network, Product, padded_width, site_after
from service.engine.tiles import ACTIVATIONS, Tile, Workspace

# Rows in one product: enough for full speed, few enough for the cache.
ROWS = 1024
_FIRST_SLOT = 8  # of the workspace; those before are for activations


class Thinned:
    """One query's samples, one after the other; see `ways.Evaluator`."""

    def __init__(self, network: Network, cut: Cut, rows: int) -> None:
        assert cut.thinned_work is not None, "`cost.way` sees to that. This is a bug."
        self._network, self._cut = network, cut
        self._shared = torch.zeros(cut.width, padded_width(rows))
        # A multiple of LANES, as ROWS is: rows that are cut need no filling up.
        self.pairs_per_tile = max(ROWS, int(PIECE_FLOPS / (2.0 * cut.thinned_work + 1.0)) // LANES * LANES)

    def keep(self, rows: slice, x: Tensor, kept: Sequence[Tensor]) -> None:  # noqa: ARG002 - no residual blocks here
        """Takes what the prefix leaves."""
        self._shared[:, rows] = x.t()

    def run(self, tile: Tile, workspace: Workspace) -> None:
        """Evaluates some samples of some rows."""
        ((samples, wanted),) = tile.sizes
        for answer, units in zip(tile.out.reshape(samples, wanted, -1), tile.kept, strict=True):
            for start in range(0, wanted, ROWS):
                count = min(ROWS, wanted - start)
                first = tile.rows.start + start
                x = self._through(self._shared[:, first : first + padded_width(count)], units, workspace)
                answer[start : start + count] = x[: self._network.outputs, :count].t().numpy()

    def _through(self, x: Tensor, kept: npt.NDArray[np.bool_], workspace: Workspace) -> Tensor:
        """One sample: shared x [units, rows] → [outputs, rows]. `kept` [lanes]."""
        slots = count(_FIRST_SLOT)
        units: Tensor | None = None  # of x; None: all
        scale, thin = 1.0, False
        for place, step in enumerate(self._cut.after):
            match step:
                case Drop(site):
                    units, scale = self._units(site, kept), kept_scale(self._cut.sites[site][2])
                    if units is not None and not thin:
                        out = workspace.take(next(slots), len(units), x.shape[1])
                        x = torch.index_select(x, 0, units, out=out)
                case Product(weight, bias):
                    following = site_after(self._cut.after, place)
                    wanted = None if following is None else self._units(following, kept)
                    weight, bias = _gathered(weight, bias, units, wanted, workspace, slots)
                    out = workspace.take(next(slots), weight.shape[1], x.shape[1])
                    x = torch.addmm(bias[:, None], weight.t(), x, alpha=scale, out=out)
                    units, scale, thin = None, 1.0, wanted is not None
                case Activate(function):
                    ACTIVATIONS[function](x)
        return x if scale == 1.0 else x.mul_(scale)

    def _units(self, site: int, kept: npt.NDArray[np.bool_]) -> Tensor | None:
        """The units that the site keeps; None where it keeps all."""
        start, width, p = self._cut.sites[site]
        return None if p == 0.0 else torch.from_numpy(np.flatnonzero(kept[start : start + width]))


def _gathered(
    weight: Tensor, bias: Tensor, inputs: Tensor | None, outputs: Tensor | None, workspace: Workspace, slots: count[int]
) -> tuple[Tensor, Tensor]:
    """The part of weight [inputs, outputs] and bias [outputs] that counts."""
    if inputs is not None:
        out = workspace.take(next(slots), len(inputs), weight.shape[1])
        weight = torch.index_select(weight, 0, inputs, out=out)
    if outputs is not None:
        out = workspace.take(next(slots), len(weight), len(outputs))
        weight, bias = torch.index_select(weight, 1, outputs, out=out), bias.index_select(0, outputs)
    return weight, bias
