"""One tile of (sample, row) pairs through the steps of a network, in buffers that are kept.

Activations are [padded pairs, padded width], pairs in the order samples × rows. Knows nothing of queries, of how work
is cut into tiles, or of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.layers import NORM_EPSILON
from service.engine.masks import scaled_mask, site_offsets
from service.engine.plan import Activate, AddKept, Drop, Keep, Normalise, Product, Step, padded_width

# Workspace slots: 0 and 1 hold activations in turn, residual blocks count up from 2.
_MASK_SLOT = -1
# A single row leaves out units that are 0 before the first dropout, where the layer is wide enough and enough are 0.
_ACTIVE_FROM_WIDTH = 128
_ACTIVE_AT_MOST = 0.75


class Workspace:
    """One thread's buffers, kept between tiles so that none is allocated in steady state."""

    def __init__(self) -> None:
        self._buffers: dict[int, Tensor] = {}

    def take(self, slot: int, rows: int, width: int) -> Tensor:
        """An uninitialised [rows, width] view; it overwrites what was last taken from that slot."""
        size = rows * width
        buffer = self._buffers.get(slot)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[slot] = torch.empty(size)
        return buffer[:size].view(rows, width)


class Masks:
    """The masks of a range of samples, made site by site where they are needed, in a buffer that stays in the cache."""

    def __init__(
        self, lanes: npt.NDArray[np.uint16], widths: Sequence[int], ps: Sequence[float], workspace: Workspace
    ) -> None:
        self._lanes = lanes
        self._sites = tuple(zip(site_offsets(widths), widths, ps, strict=True))
        self._workspace = workspace

    def of(self, site: int) -> Tensor | None:
        """[samples, 1, width], valid until the next call; None for a site that keeps all."""
        start, width, p = self._sites[site]
        if p == 0.0:
            return None
        out = self._workspace.take(_MASK_SLOT, len(self._lanes), width).numpy()
        return torch.from_numpy(scaled_mask(self._lanes[:, start : start + width], p, out))[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class ActiveUnits:
    """Units of a single row that are not 0 before the first dropout, their values, and the next product for them."""

    units: Tensor  # [units] int64
    x: Tensor  # [1, 1, units]
    product: Product


def active_units(x: Tensor, steps: Sequence[Step]) -> ActiveUnits | None:
    """The part of x [width] that counts, where leaving out the rest is worth it.

    ReLU leaves about half of the units at 0, and for one row they are the same units in every sample: a thinned
    network never needs their weights. With more rows nearly every unit is needed by some row.
    """
    if len(x) < _ACTIVE_FROM_WIDTH or len(steps) < 2 or not isinstance(product := steps[1], Product):
        return None
    inactive = x.numpy() == 0.0
    wanted = padded_width(len(x) - int(np.count_nonzero(inactive)))
    if wanted > _ACTIVE_AT_MOST * len(x):
        return None
    # Stable: active units in order, then as many inactive ones, whose products are exactly 0, as fill up the width.
    units = torch.from_numpy(np.argsort(inactive, kind="stable")[:wanted])
    weight = product.weight.index_select(0, units)
    return ActiveUnits(units, x.index_select(0, units)[None, None], Product(weight, product.bias))


def through(
    steps: Sequence[Step],
    x: Tensor,
    shape: tuple[int, int],
    masks: Masks | None,
    kept: list[Tensor],
    workspace: Workspace,
) -> Tensor:
    """Takes x, in workspace slot 0, to the last step's output; without masks every dropout site keeps all.

    `shape` is (samples, rows) of the pairs that count. `kept` holds, as [samples or 1, rows, width], what residual
    blocks around these steps have kept, and is left holding what they keep beyond them.
    """
    slot, pairs = 0, shape[0] * shape[1]
    for step in steps:
        match step:
            case Product(weight, bias):
                slot ^= 1
                x = torch.addmm(bias, x, weight, out=workspace.take(slot, len(x), weight.shape[1]))
            case Activate(function):
                _ACTIVATIONS[function](x)
            case Drop(site):
                mask = masks.of(site) if masks else None
                if mask is not None:
                    x[:pairs].view(*shape, -1)[..., : mask.shape[2]].mul_(mask)
            case Normalise(weight, bias, width):
                x[:, :width] = functional.layer_norm(x[:, :width], (width,), weight, bias, NORM_EPSILON)
            case Keep():
                copy = workspace.take(2 + len(kept), pairs, x.shape[1]).copy_(x[:pairs])
                kept.append(copy.view(*shape, -1))
            case AddKept():
                x[:pairs].view(*shape, -1).add_(kept.pop())
    return x


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": torch.ops.aten.gelu_,
    "silu": partial(functional.silu, inplace=True),
    "tanh": torch.tanh_,
    "elu": partial(functional.elu, inplace=True),
    "leaky_relu": partial(functional.leaky_relu, inplace=True),
}
