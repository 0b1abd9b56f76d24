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
from service.engine.masks import kept_scale
from service.engine.plan import Activate, AddKept, Cut, Drop, Keep, Normalise, Product, Step, padded_width

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
    """The masks of a range of samples: compared at once, while the lanes are in the cache, spelled out where needed."""

    def __init__(self, lanes: npt.NDArray[np.uint16], cut: Cut, workspace: Workspace) -> None:
        self._kept = lanes >= cut.thresholds
        self._sites = cut.sites  # (first lane, width, p)
        self._workspace = workspace

    def of(self, site: int) -> Tensor | None:
        """1 for kept, 0 for dropped units [samples, width], valid until the next call; None where all are kept."""
        start, width, p = self._sites[site]
        if p == 0.0:
            return None
        out = self._workspace.take(_MASK_SLOT, len(self._kept), width)
        if p == 1.0:
            return out.zero_()
        np.copyto(out.numpy(), self._kept[:, start : start + width])
        return out

    def scale(self, site: int) -> float:
        """What the site's kept units are multiplied by."""
        return kept_scale(self._sites[site][2])


@dataclass(frozen=True, slots=True, eq=False)
class ActiveUnits:
    """Units of a single row that are not 0 before the first dropout, their values, and the next product for them."""

    units: Tensor  # [units] int64
    x: Tensor  # [1, units]
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
    return ActiveUnits(units, x.index_select(0, units)[None], Product(weight, product.bias))


def through(
    steps: Sequence[Step],
    x: Tensor,
    shape: tuple[int, int],
    masks: Masks | None,
    kept: list[Tensor],
    workspace: Workspace,
    scale: float = 1.0,
) -> Tensor:
    """Takes x, in workspace slot 0, to the last step's output; without masks every dropout site keeps all.

    `shape` is (samples, rows) of the pairs that count. `kept` holds, as [samples or 1, rows, width], what residual
    blocks around these steps have kept, and is left holding what they keep beyond them. `scale` is what x has yet to
    be multiplied by: a product that follows a dropout site does it for nothing.
    """
    slot, pairs = 0, shape[0] * shape[1]
    for step in steps:
        if scale != 1.0 and not isinstance(step, Product):
            x *= scale
            scale = 1.0
        match step:
            case Product(weight, bias):
                slot ^= 1
                out = workspace.take(slot, len(x), weight.shape[1])
                x, scale = torch.addmm(bias, x, weight, alpha=scale, out=out), 1.0
            case Activate(function):
                _ACTIVATIONS[function](x)
            case Drop(site):
                mask = masks.of(site) if masks else None
                if masks is not None and mask is not None:
                    x[:pairs].view(*shape, -1)[..., : mask.shape[1]].mul_(mask[:, None])
                    scale = masks.scale(site)
            case Normalise(weight, bias, width):
                x[:, :width] = functional.layer_norm(x[:, :width], (width,), weight, bias, NORM_EPSILON)
            case Keep():
                copy = workspace.take(2 + len(kept), pairs, x.shape[1]).copy_(x[:pairs])
                kept.append(copy.view(*shape, -1))
            case AddKept():
                x[:pairs].view(*shape, -1).add_(kept.pop())
    return x if scale == 1.0 else x.mul_(scale)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": torch.ops.aten.gelu_,
    "silu": partial(functional.silu, inplace=True),
    "tanh": torch.tanh_,
    "elu": partial(functional.elu, inplace=True),
    "leaky_relu": partial(functional.leaky_relu, inplace=True),
}
