"""Networks compiled for evaluation: spelled-out layers and tensors become a short list of steps.

Batch normalisation is folded into the product before it. Laid out for PyTorch, every width is filled up with zero
columns to a multiple of LANES, so that elementwise operations never meet a ragged end, where they would use other
instructions and give other bits; the kernel has a layout of its own. Knows nothing of rows, seeds or threads; compiles
once and is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.architecture import Architecture
from models.layers import (
    NORM_EPSILON,
    Activation,
    Block,
    ClassToken,
    Dropout,
    FirstToken,
    Layer,
    Linear,
    Norm,
    Patches,
    Positions,
    Transpose,
    dropout_sites,
    flops,
    walk,
)
from models.networks import resampled_positions
from service.engine.kernel.program import BLOCK, Program, panels
from service.engine.masks import lane_thresholds
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

LANES = 16
# The most arithmetic in one piece of work, so that no request holds a thread for more than about 20 ms.
PIECE_FLOPS = 1_000_000_000
# Numbers in one buffer of activations: two of them stay in the second-level cache. A GPU wants many at once.
_TILE_NUMBERS, _GPU_TILE_NUMBERS = 1 << 18, 1 << 26
_FEWEST_PAIRS, _MOST_PAIRS = 128, 4096


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Why a product's bits do not depend on how many rows there are.

    "ordered": the kernel adds up every output in the order of its inputs. With PyTorch, rows are filled up: "aligned",
    to a multiple of `rows`; "fixed", every product has exactly `rows` rows, slower and for builds where alignment alone
    does not hold. `verified` says that this process compared bits (see `verify`).
    """

    kind: Literal["ordered", "aligned", "fixed"]
    rows: int = 1
    verified: bool = False

    def padded(self, rows: int) -> int:
        """Rows of the product in which `rows` rows are evaluated."""
        return -(-rows // self.rows) * self.rows


@dataclass(frozen=True, eq=False)
class Cut:
    """A network's steps for given dropout probabilities: what all samples share, and what each has for itself.

    `before` has no active dropout; `after` begins with the first active site, or is empty. `width` is that of x
    between them, `kept` that of what each residual block that is open there remembers: numbers of a pair, filled up.
    `sites` are (first lane, width, p), `thresholds`
    what each lane is compared with. `work` is the multiply-adds of one pair of sample and row beyond the prefix.
    """

    before: tuple[Step, ...]
    after: tuple[Step, ...]
    width: int
    kept: tuple[int, ...]
    sites: tuple[tuple[int, int, float], ...]
    thresholds: npt.NDArray[np.uint16]
    work: float
    # The same for the kernel, where it evaluates.
    program: Program | None


@dataclass(frozen=True, eq=False)
class Network:
    """A compiled network: steps, its dropout sites, and how rows are filled up; `trained` is its cut as trained."""

    steps: tuple[Step, ...]
    site_widths: tuple[int, ...]
    site_ps: tuple[float, ...]
    inputs: int
    outputs: int
    flops_per_row: int
    widest: int
    row_plan: RowPlan
    trained: Cut

    @cached_property
    def device(self) -> torch.device:
        """Where its tensors are, and its products are computed."""
        return next(step.weight.device for step in self.steps if isinstance(step, Product))

    @cached_property
    def on_cpu(self) -> bool:
        """Whether it is evaluated by this machine's processor."""
        return self.device.type == "cpu"

    @cached_property
    def pairs_per_tile(self) -> int:
        """The most (sample, row) pairs that are evaluated at once, as one piece of work."""
        if self.row_plan.kind == "ordered":
            return max(BLOCK, PIECE_FLOPS // max(1, self.flops_per_row) // BLOCK * BLOCK)
        if self.row_plan.kind == "fixed":
            return self.row_plan.rows
        if not self.on_cpu:
            return max(self.row_plan.rows, _GPU_TILE_NUMBERS // self.widest)
        fitting = min(max(_TILE_NUMBERS // self.widest, _FEWEST_PAIRS), _MOST_PAIRS)
        return max(self.row_plan.rows, min(fitting, PIECE_FLOPS // max(1, self.flops_per_row)))

    @cached_property
    def lanes(self) -> int:
        """Units that may be dropped: random numbers that one sample takes."""
        return sum(self.site_widths)

    def probabilities(self, what_if: float | None) -> tuple[float, ...]:
        """The p of each site, as trained or all replaced by `what_if`."""
        return self.site_ps if what_if is None else (what_if,) * len(self.site_ps)

    def cut(self, what_if: float | None) -> Cut:
        """The cut as trained, or with every p replaced by `what_if`."""
        if what_if is None:
            return self.trained
        shape = self.inputs, self.outputs
        return _cut(self.steps, self.site_widths, self.probabilities(what_if), *shape, self.row_plan)


def compile_network(
    architecture: Architecture, tensors: Mapping[str, Tensor], row_plan: RowPlan, device: str = "cpu"
) -> Network:
    """The steps of an architecture with these (verified) tensors, on a device."""
    layers = architecture.layers()
    sites = dropout_sites(layers)
    steps = tuple(_Compiler(tensors, device, for_kernel=row_plan.kind == "ordered").steps(layers))
    widths, ps = tuple(site.width for site in sites), tuple(site.p for site in sites)
    shape = architecture.inputs, architecture.head.width
    return Network(
        steps=steps,
        site_widths=widths,
        site_ps=ps,
        trained=_cut(steps, widths, ps, *shape, row_plan),
        inputs=shape[0],
        outputs=shape[1],
        flops_per_row=sum(flops(layer) for _, layer in walk(layers)),
        widest=max(
            step.times * padded_width(max(step.inputs, step.outputs)) for step in steps if isinstance(step, Product)
        ),
        row_plan=row_plan,
    )


def _cut(
    steps: tuple[Step, ...],
    widths: tuple[int, ...],
    ps: tuple[float, ...],
    inputs: int,
    outputs: int,
    row_plan: RowPlan,
) -> Cut:
    active = (place for place, step in enumerate(steps) if isinstance(step, Drop) and ps[step.site] > 0.0)
    place = next(active, len(steps))
    before = steps[:place]
    after = steps[place:]
    *kept, width = _widths(before, inputs)
    sites = tuple(zip(accumulate(widths, initial=0), widths, ps, strict=False))
    return Cut(
        before=before,
        after=after,
        width=width,
        kept=tuple(kept),
        sites=sites,
        thresholds=lane_thresholds(widths, ps),
        work=sum(float(step.inputs * step.outputs * step.times) for step in after if isinstance(step, Product)),
        program=Program(steps, sites, len(before), inputs, outputs) if row_plan.kind == "ordered" else None,
    )


def _widths(steps: tuple[Step, ...], inputs: int) -> list[int]:
    """Numbers of a pair in what each open residual block remembers, and at last in x, after these steps."""
    open_blocks: list[int] = []
    width = padded_width(inputs)
    for step in steps:
        match step:
            case Product():
                width = step.times * padded_width(step.outputs)
            case Patch(image):
                width = image.tokens * padded_width(image.channels * image.patch**2)
            case Place(values):
                width = values.numel()
            case Turn(times, units):
                width = units * padded_width(times)
            case TakeFirst(times):
                width //= times
            case Keep():
                open_blocks.append(width)
            case AddKept():
                open_blocks.pop()
    return [*open_blocks, width]


class _Compiler:
    """One walk over the layers; counts dropout sites on its way."""

    def __init__(self, tensors: Mapping[str, Tensor], device: str, *, for_kernel: bool) -> None:
        self._tensors, self._device, self._for_kernel = tensors, device, for_kernel
        self._sites = 0
        self._token: Tensor | None = None

    def steps(self, layers: tuple[Layer, ...], prefix: str = "") -> list[Step]:
        steps: list[Step] = []
        for place, layer in enumerate(layers):
            name = prefix + layer.name
            match layer:
                case Linear(times=times):
                    after = layers[place + 1] if place + 1 < len(layers) else None
                    folded = prefix + after.name if isinstance(after, Norm) and after.kind == "batch" else None
                    steps.append(self._product(name, folded, times))
                case Norm(kind="batch"):
                    if place == 0 or not isinstance(layers[place - 1], Linear):
                        raise NotImplementedError("batch normalisation is compiled only right after a linear layer")
                case Norm(width=width, epsilon=epsilon):
                    weight, bias = (self._moved(self._tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
                    steps.append(Normalise(weight, bias, width, epsilon))
                case Activation(function=function):
                    steps.append(Activate(function))
                case Dropout(times=times):
                    steps.append(Drop(self._sites, times))
                    self._sites += 1
                case Block(layers=inner, residual=residual):
                    within = self.steps(inner, name + ".")
                    steps.extend([Keep(), *within, AddKept()] if residual else within)
                case _:
                    steps.extend(self._of_stack(name, layer))
        return steps

    def _of_stack(self, name: str, layer: Layer) -> list[Step]:
        """What only feed-forward stacks have."""
        match layer:
            case Patches():
                return [Patch(layer)]
            case ClassToken():
                self._token = self._tensors[name + ".token"]
                return []
            case Positions():
                return [self._place(name, layer)]
            case Transpose(rows=times, columns=width):
                return [Turn(times, width)]
            case FirstToken(tokens=times):
                return [TakeFirst(times)]
        raise NotImplementedError(f"no step for {layer}")

    def _place(self, name: str, layer: Positions) -> Place:
        """The class token and its position are one vector, which is added to zeros."""
        if self._token is None:
            raise NotImplementedError("positions are compiled only right after a class token")
        positions = resampled_positions(self._tensors[name + ".values"], layer.learnt, layer.grid)
        values = torch.zeros(layer.tokens, padded_width(layer.width))
        values[:, : layer.width] = positions
        values[0, : layer.width] += self._token
        self._token = None
        return Place(self._moved(values))

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, copy=True)

    def _product(self, linear: str, batch_norm: str | None, times: int) -> Product:
        # In float64: the folded network must agree with the unfolded one to float32 rounding.
        weight = self._tensors[linear + ".weight"].double()  # [outputs, inputs]
        bias = self._tensors[linear + ".bias"].double()
        if batch_norm is not None:
            gain, shift, mean, variance = (
                self._tensors[f"{batch_norm}.{part}"].double()
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = gain / torch.sqrt(variance + NORM_EPSILON)
            weight = weight * factor[:, None]
            bias = (bias - mean) * factor + shift
        outputs, inputs = weight.shape
        if self._for_kernel:
            return Product(*panels(weight.T, bias), inputs, outputs, times)
        padded_weight = torch.zeros(padded_width(inputs), padded_width(outputs))
        padded_weight[:inputs, :outputs] = weight.T
        padded_bias = torch.zeros(padded_width(outputs))
        padded_bias[:outputs] = bias
        return Product(padded_weight.to(self._device), padded_bias.to(self._device), inputs, outputs, times)


def padded_width(width: int) -> int:
    """A width filled up to a multiple of LANES."""
    return -(-width // LANES) * LANES
