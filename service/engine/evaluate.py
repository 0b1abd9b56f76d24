"""Queries through a compiled network: prefix once, then tiles of (sample, row) pairs through the layers.

An Evaluation is a list of stages; a stage is a list of independent pieces of work, each a few milliseconds long,
that may run in any order and on any thread. How the work is cut never changes an answer's bits: every product is
filled up by the network's row plan, and every operation runs on one thread. Knows nothing of queues or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.features import Float32
from service.engine.masks import draw_masks
from service.engine.plan import (
    LANES,
    Activate,
    AddKept,
    Drop,
    Keep,
    Network,
    Normalise,
    Product,
    Step,
    padded_width,
)
from service.engine.query import Committee, Query

# (sample, row) pairs per tile: activations of common widths stay in the second-level cache.
TILE_PAIRS = 512
# The most arithmetic in one piece of work, so that no request holds a thread for more than about 20 ms.
PIECE_FLOPS = 1_000_000_000
# Below this a piece is not worth handing to another thread.
SPLIT_FLOPS = 20_000_000


class Workspace:
    """One thread's buffers, kept between pieces so that none is allocated in steady state."""

    def __init__(self) -> None:
        self._buffers: dict[int, Tensor] = {}

    def take(self, slot: int, rows: int, width: int) -> Tensor:
        """An uninitialised [rows, width] view; it overwrites what was last taken from that slot."""
        size = rows * width
        buffer = self._buffers.get(slot)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[slot] = torch.empty(size)
        return buffer[:size].view(rows, width)


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
    network with a single sample.
    """

    def __init__(self, network: Network, query: Query, threads: int = 1) -> None:
        self._network = network
        self._rows = query.rows
        self._committee = query.committee
        self._probabilities = network.probabilities(query.committee.p if query.committee else 0.0)
        cut = network.first_random_step(self._probabilities)
        self._before, self._after = network.steps[:cut], network.steps[cut:]
        self._threads = threads
        rows, samples = len(query.rows), query.committee.samples if query.committee else 1
        self.outputs: Float32 = np.empty((samples, rows, network.outputs), np.float32)
        # What the prefix leaves for all samples to share: x and whatever residual blocks still hold.
        self._shared: list[Tensor] = []

    def stages(self) -> Sequence[Sequence[Piece]]:
        """The work, in order; within a stage in any order."""
        if self._committee is None or not self._after:
            return [self._prefix_pieces()]
        return [self._prefix_pieces(), self._committee_pieces(self._committee)]

    def _prefix_pieces(self) -> list[Piece]:
        rows = len(self._rows)
        if self._after:
            width = _width_after(self._before, self._network.inputs)
            self._shared = [torch.empty(rows, width) for _ in range(1 + _kept_after(self._before))]
        chunk = _pairs_per_piece(self._network)
        return [partial(self._run_prefix, start, min(start + chunk, rows)) for start in range(0, rows, chunk)]

    def _run_prefix(self, start: int, stop: int, workspace: Workspace) -> None:
        count = stop - start
        padded = self._network.row_plan.padded(count)
        inputs = self._network.inputs
        x = workspace.take(0, padded, padded_width(inputs)).zero_()
        x[:count, :inputs] = torch.from_numpy(self._rows[start:stop])
        kept: list[Tensor] = []
        x = _through(self._before, x, (1, count), (), kept, workspace)
        if self._after:
            for shared, part in zip(self._shared, (x, *kept), strict=True):
                shared[start:stop] = part.view(-1, part.shape[-1])[:count]
        else:
            self.outputs[:, start:stop] = x[:count, : self._network.outputs].numpy()

    def _committee_pieces(self, committee: Committee) -> list[Piece]:
        rows = len(self._rows)
        pairs = _pairs_per_piece(self._network)
        samples = max(1, pairs // rows)
        if self._threads > 1:
            # Cores that would idle get a share, where a share is worth the hand-over.
            worth = max(1, SPLIT_FLOPS // max(1, self._network.flops_per_row * rows))
            samples = min(samples, max(worth, -(-committee.samples // self._threads)))
        return [
            partial(self._run_samples, committee, start, min(start + samples, committee.samples))
            for start in range(0, committee.samples, samples)
        ]

    def _run_samples(self, committee: Committee, start: int, stop: int, workspace: Workspace) -> None:
        network, count = self._network, stop - start
        drawn = draw_masks(
            committee.seed,
            committee.first_sample + start,
            count,
            network.site_widths,
            self._probabilities,
            padding=LANES,
        )
        masks = [None if mask is None else torch.from_numpy(mask)[:, None] for mask in drawn]  # [samples, 1, width]
        rows = len(self._rows)
        chunk = max(1, _pairs_per_piece(network) // count)
        for first in range(0, rows, chunk):
            self._run_tile(masks, (start, stop), (first, min(first + chunk, rows)), workspace)

    def _run_tile(
        self, masks: Sequence[Tensor | None], samples: tuple[int, int], rows: tuple[int, int], workspace: Workspace
    ) -> None:
        shape = samples[1] - samples[0], rows[1] - rows[0]
        pairs = shape[0] * shape[1]
        shared, *kept = (part[None, rows[0] : rows[1]] for part in self._shared)  # [1, rows, width]
        x = workspace.take(0, self._network.row_plan.padded(pairs), shared.shape[-1])
        x[pairs:].zero_()
        first = self._after[0]
        mask = masks[first.site] if isinstance(first, Drop) else None
        assert mask is not None, "the first step after the prefix is an active dropout site. This is a bug."
        torch.mul(shared, mask, out=x[:pairs].view(*shape, -1))
        x = _through(self._after[1:], x, shape, masks, kept, workspace)
        outputs = x[:pairs, : self._network.outputs].view(*shape, -1)
        self.outputs[samples[0] : samples[1], rows[0] : rows[1]] = outputs.numpy()


def evaluate(network: Network, query: Query) -> Float32:
    """A query's outputs, [samples, rows, outputs], on the calling thread alone."""
    evaluation, workspace = Evaluation(network, query), Workspace()
    for stage in evaluation.stages():
        for piece in stage:
            piece(workspace)
    return evaluation.outputs


def _through(
    steps: Sequence[Step],
    x: Tensor,
    shape: tuple[int, int],
    masks: Sequence[Tensor | None],
    kept: list[Tensor],
    workspace: Workspace,
) -> Tensor:
    """Takes x [padded pairs, width], in workspace slot 0, to the last step's output.

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
                mask = masks[site] if masks else None
                if mask is not None:
                    x[:pairs].view(*shape, -1).mul_(mask)
            case Normalise(weight, bias, width):
                x[:, :width] = functional.layer_norm(x[:, :width], (width,), weight, bias, 1e-5)
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


def _pairs_per_piece(network: Network) -> int:
    plan = network.row_plan
    if plan.kind == "fixed":
        return plan.rows
    return max(plan.rows, min(TILE_PAIRS, PIECE_FLOPS // max(1, network.flops_per_row)))


def _width_after(steps: Sequence[Step], inputs: int) -> int:
    """The padded width of x after these steps."""
    return next((step.weight.shape[1] for step in reversed(steps) if isinstance(step, Product)), padded_width(inputs))


def _kept_after(steps: Sequence[Step]) -> int:
    """How many residual blocks are still open after these steps."""
    return sum(isinstance(step, Keep) for step in steps) - sum(isinstance(step, AddKept) for step in steps)
