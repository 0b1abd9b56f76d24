"""A network's steps as the kernel reads them. The layouts here and in kernel.c are one; nobody else knows them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.features import Float32
from service.engine.kernel.binaries import address, load, vector
from service.engine.masks import blocks_per_sample, kept_scale, threshold
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

# Pairs that go through the network together: a piece of work is best a multiple of them.
BLOCK = 60
_STEP = np.dtype(
    [(name, "i4") for name in ("kind", "inputs", "outputs", "units", "first_lane", "threshold")]
    + [("scale", "f4"), ("weight", "u8"), ("bias", "u8")],
    align=True,
)
_NETWORK = np.dtype(
    [("steps", "u8")]
    + [(name, "i4") for name in ("shared", "count", "inputs", "outputs", "widest", "generator_blocks", "kept")],
    align=True,
)
_PART = struct.Struct("=QQqqiiii")
_KINDS = ("product", "normalise", "drop", "keep", "add", "relu", "leaky_relu", "elu", "gelu", "silu", "tanh")


class Part(NamedTuple):
    """Samples × rows of a query: pair (sample, row) has its outputs at first_pair + sample · stride + row.

    Its masks are those of sample number first_sample + sample · step.
    """

    seed: int
    first_sample: int
    first_pair: int
    first_row: int
    samples: int
    rows: int
    stride: int
    step: int


def knows(steps: Sequence[Step]) -> bool:
    """Whether the kernel has every step: it works on one vector a pair, and does not rearrange."""
    return not any(isinstance(step, (Patch, Place, Turn, TakeFirst)) for step in steps)


def filled(width: int) -> int:
    """A width filled up to whole vectors."""
    return -(-width // vector()) * vector()


def panels(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A product's weight [inputs, outputs] and bias [outputs] as the kernel wants them.

    Outputs are filled up with zeros; weights lie in panels two vectors wide, at last one of a single vector if it is
    left.
    """
    inputs, outputs = weight.shape
    wide, panel = torch.zeros(inputs, filled(outputs)), 2 * vector()
    wide[:, :outputs] = weight
    laid = [wide[:, start : start + panel].reshape(-1) for start in range(0, wide.shape[1], panel)]
    biases = torch.zeros(wide.shape[1])
    biases[:outputs] = bias + 0.0  # a negative zero would show whether dropped inputs were added
    return torch.cat(laid), biases


def unpanelled(laid: Tensor, inputs: int) -> Tensor:
    """A weight [inputs, filled outputs] from its panels."""
    width, panel = laid.numel() // inputs, 2 * vector()
    starts = range(0, width, panel)
    return torch.cat(
        [laid[start * inputs :][: inputs * min(panel, width - start)].view(inputs, -1) for start in starts], 1
    )


class Program:
    """The steps of a network whose products are laid out in panels, for given dropout probabilities.

    `shared` steps have no active site; `sites` are (first lane, width, p).
    """

    def __init__(
        self, steps: Sequence[Step], sites: Sequence[tuple[int, int, float]], shared: int, inputs: int, outputs: int
    ) -> None:
        library = load()
        assert library is not None, "networks are laid out for the kernel only where it is. This is a bug."
        self._evaluate = library.evaluate
        self._steps = np.zeros(len(steps), _STEP)
        self._tensors: list[Tensor] = []  # what the steps point to
        width, widest, units, kept, most_kept = filled(inputs), filled(inputs), inputs, 0, 0
        for place, step in enumerate(steps):
            entry: dict[str, Any] = {"inputs": width, "units": units}
            match step:
                case Product(weight, bias):
                    width, units = filled(step.outputs), step.outputs
                    entry |= {"kind": "product", "weight": self._at(weight), "bias": self._at(bias)}
                case Normalise(weight, bias):
                    entry |= {"kind": "normalise", "weight": self._at(weight), "bias": self._at(bias)}
                case Activate(function):
                    entry["kind"] = function
                case Drop(site):
                    lane, _, p = sites[site]
                    entry |= {"kind": "drop", "first_lane": lane, "threshold": threshold(p), "scale": kept_scale(p)}
                case Keep():
                    entry["kind"], kept = "keep", kept + 1
                case AddKept():
                    entry["kind"], kept = "add", kept - 1
            entry |= {"kind": _KINDS.index(entry["kind"]), "outputs": width}
            self._steps[place] = tuple(entry.get(name, 0) for name in _STEP.names or ())
            widest, most_kept = max(widest, width), max(most_kept, kept)
        blocks = blocks_per_sample([width for _, width, _ in sites])
        self._network = np.array(
            [(self._steps.ctypes.data, shared, len(steps), inputs, outputs, widest, blocks, most_kept)], _NETWORK
        )
        self._address = self._network.ctypes.data
        self.room: int = library.room(self._address)

    def _at(self, tensor: Tensor) -> int:
        self._tensors.append(tensor)
        return tensor.data_ptr()

    def evaluate(self, parts: Sequence[Part], rows: Float32, out: Float32, room: int) -> None:
        """Evaluates parts of rows [rows, inputs] into out [pairs, outputs], both contiguous.

        `room` is the address of `self.room` bytes that nobody else uses meanwhile. Lets other threads run.
        """
        packed = b"".join([_PART.pack(*part) for part in parts])
        self._evaluate(self._address, packed, len(parts), address(rows), address(out), room)
