"""One tile of (sample, row) pairs through the steps of a network, in buffers that are kept.

Activations are [padded pairs, padded width]; where a pair has several vectors, each of them is filled up, and they
stand side by side. A tile may hold several queries, whose pairs follow one another; within a
query they are in the order samples × rows. Knows nothing of how work is cut into tiles, or of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from service.engine.masks import kept_scale
from service.engine.plan import Cut, padded_width
from service.engine.steps import (
    Activate,
    AddKept,
    Drop,
    Keep,
    Normalise,
    Patch,
    Place,
    Product,
    Step,
    TakeFirst,
    Turn,
)
from service.engine.workspace import Workspace

# Workspace slots: 0 and 1 hold activations in turn, residual blocks count up from 2.
MASK_SLOT = -1


class Run(NamedTuple):
    """Queries of one size that follow one another: queries × samples × rows pairs."""

    queries: int
    samples: int
    rows: int


class Layout:
    """Where the runs of a tile lie among its pairs, its masks (one for each sample of each query) and its rows."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.pairs = self.masks = self.rows = 0
        self._runs: list[tuple[Run, slice, slice, slice]] = []
        # Pairs that a mask is spread over by one operation: single rows need no spreading, whosever they are.
        self._blocks: list[tuple[int, slice, slice]] = []
        for run in runs:
            masks, rows = run.queries * run.samples, run.queries * run.rows
            ends = self.pairs + masks * run.rows, self.masks + masks, self.rows + rows
            place = slice(self.pairs, ends[0]), slice(self.masks, ends[1])
            self._runs.append((run, *place, slice(self.rows, ends[2])))
            if self._blocks and self._blocks[-1][0] == run.rows == 1:
                _, *before = self._blocks.pop()
                place = slice(before[0].start, ends[0]), slice(before[1].start, ends[1])
            self._blocks.append((run.rows, *place))
            self.pairs, self.masks, self.rows = ends

    def spread(self, shared: Tensor, masks: Tensor, out: Tensor) -> None:
        """Out [pairs, width] = each query's rows, from shared [rows, width], times its masks [masks, width]."""
        for (queries, samples, rows), pairs, of_masks, of_rows in self._runs:
            torch.mul(
                shared[of_rows].view(queries, 1, rows, -1),
                masks[of_masks].view(queries, samples, 1, -1),
                out=out[pairs].view(queries, samples, rows, -1),
            )

    def add_shared(self, x: Tensor, shared: Tensor) -> None:
        """Adds each query's rows to x [pairs, width]."""
        for (queries, samples, rows), pairs, _, of_rows in self._runs:
            x[pairs].view(queries, samples, rows, -1).add_(shared[of_rows].view(queries, 1, rows, -1))

    def multiply(self, x: Tensor, masks: Tensor) -> None:
        """Multiplies x [pairs, width] by the masks [masks, width]."""
        for rows, pairs, of_masks in self._blocks:
            if rows == 1:
                x[pairs].mul_(masks[of_masks])
            else:
                x[pairs].view(-1, rows, x.shape[1]).mul_(masks[of_masks, None])


class Masks:
    """The masks of a tile: which units are kept [masks, lanes], spelled out as numbers site by site."""

    def __init__(self, kept: npt.NDArray[np.bool_], cut: Cut, workspace: Workspace, device: torch.device) -> None:
        self._kept = kept
        self._sites = cut.sites  # (first lane, width, p)
        self._workspace, self._device = workspace, device

    def of(self, site: int, times: int = 1) -> Tensor | None:
        """1 for kept, 0 for dropped units [masks, padded width], valid until the next call; None: all are kept.

        The site's units are those of `times` vectors.
        """
        start, units, p = self._sites[site]
        if p == 0.0:
            return None
        width = units // times
        out = self._workspace.take(MASK_SLOT, len(self._kept), times * padded_width(width), self._device)
        if p == 1.0:
            return out.zero_()
        kept = self._kept[:, start : start + units].reshape(-1, times, width)
        laid = out.view(-1, times, padded_width(width))
        if out.is_cpu:
            numbers = laid.numpy()
            numbers[..., :width] = kept
            numbers[..., width:] = 0.0
        else:
            laid[..., :width] = torch.from_numpy(np.ascontiguousarray(kept)).to(self._device)
            laid[..., width:] = 0.0
        return out

    def scale(self, site: int) -> float:
        """What the site's kept units are multiplied by."""
        return kept_scale(self._sites[site][2])


class Kept(NamedTuple):
    """What a residual block remembers: x of every pair, or (`shared`) of every row, the same for all samples."""

    x: Tensor
    shared: bool = False


def through(
    steps: Sequence[Step],
    x: Tensor,
    layout: Layout,
    masks: Masks | None,
    kept: list[Kept],
    workspace: Workspace,
    scale: float = 1.0,
) -> Tensor:
    """Takes x, in workspace slot 0, to the last step's output; without masks every dropout site keeps all.

    `kept` holds what residual blocks around these steps remember, and is left holding what they remember beyond them.
    `scale` is what x has yet to be multiplied by: a product that follows a dropout site does it for nothing.
    """
    slot, pairs, padded, device = 0, layout.pairs, x.size(0), x.device
    for step in steps:
        if scale != 1.0 and not isinstance(step, Product):
            x *= scale
            scale = 1.0
        match step:
            case Product(weight, bias):
                slot ^= 1
                vectors = x.view(-1, weight.size(0))
                out = workspace.take(slot, vectors.size(0), weight.size(1), device)
                x, scale = torch.addmm(bias, vectors, weight, alpha=scale, out=out).view(padded, -1), 1.0
            case Activate(function):
                ACTIVATIONS[function](x)
            case Drop(site, times):
                mask = masks.of(site, times) if masks else None
                if masks is not None and mask is not None:
                    layout.multiply(x, mask)
                    scale = masks.scale(site)
            case Normalise(weight, bias, width, epsilon):
                units = x.view(-1, padded_width(width))[:, :width]
                units.copy_(functional.layer_norm(units, (width,), weight, bias, epsilon))
            case Keep():
                copy = workspace.take(2 + len(kept), pairs, x.shape[1], device)
                kept.append(Kept(copy.copy_(x[:pairs])))
            case AddKept():
                remembered, shared = kept.pop()
                if shared:
                    layout.add_shared(x, remembered)
                else:
                    x[:pairs].add_(remembered)
            case Patch() | Place() | Turn() | TakeFirst():
                slot ^= 1
                x = _rearranged(step, x, workspace, slot)
    return x if scale == 1.0 else x.mul_(scale)


def _rearranged(step: Patch | Place | Turn | TakeFirst, x: Tensor, workspace: Workspace, slot: int) -> Tensor:
    """The vectors of each pair put into other places, in another slot."""
    pairs, device = x.size(0), x.device
    match step:
        case Patch(image):
            width = image.channels * image.patch**2
            grid = image.height // image.patch, image.width // image.patch
            pixels = x[:, : image.height * image.width * image.channels]
            patches = pixels.view(pairs, grid[0], image.patch, grid[1], image.patch, image.channels)
            out = workspace.take(slot, pairs, image.tokens * padded_width(width), device).zero_()
            places = out.view(pairs, *grid, padded_width(width))[..., :width]
            places.copy_(patches.permute(0, 1, 3, 5, 2, 4).reshape(places.shape))
        case Place(values):
            out = workspace.take(slot, pairs, values.numel(), device)
            vectors = out.view(pairs, *values.shape)
            vectors[:, 0] = values[0]
            torch.add(x.view(pairs, -1, values.size(1)), values[1:], out=vectors[:, 1:])
        case Turn(times, width):
            out = workspace.take(slot, pairs, width * padded_width(times), device).view(pairs, width, -1)
            out[..., :times] = x.view(pairs, times, -1)[..., :width].transpose(1, 2)
            out[..., times:] = 0.0
            out = out.view(pairs, -1)
        case TakeFirst(times):
            out = workspace.take(slot, pairs, x.size(1) // times, device)
            out.copy_(x[:, : out.size(1)])
    return out


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": torch.ops.aten.gelu_,
    "silu": partial(functional.silu, inplace=True),
    "tanh": torch.tanh_,
    "elu": partial(functional.elu, inplace=True),
    "leaky_relu": partial(functional.leaky_relu, inplace=True),
}
