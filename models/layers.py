"""The vocabulary every network is written in.

An architecture spells itself out as a tuple of these values. Three readers share that one spelling:
`networks` builds plain PyTorch modules from it, the service's engine compiles it, `describe` counts it.
Knows nothing of weights, tensors or any particular architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

ActivationName = Literal["relu", "gelu", "silu", "tanh", "elu", "leaky_relu"]
NormName = Literal["none", "batch", "layer"]

NORM_EPSILON = 1e-5  # PyTorch's default for BatchNorm1d and LayerNorm


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x Wᵀ + b, with W of shape [outputs, inputs]."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Norm:
    """Batch normalisation (over rows, with running statistics) or layer normalisation (over units)."""

    name: str
    kind: Literal["batch", "layer"]
    width: int


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise non-linearity."""

    name: str
    function: ActivationName
    width: int


@dataclass(frozen=True, slots=True)
class Dropout:
    """A dropout site: a place where each of `width` units may be dropped with probability `p`."""

    name: str
    width: int
    p: float
    inplace: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A named run of layers; with `residual`, its input is added to its output."""

    name: str
    layers: tuple[Layer, ...]
    residual: bool = False


Layer: TypeAlias = Linear | Norm | Activation | Dropout | Block


def walk(layers: tuple[Layer, ...], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """Every layer in order of evaluation with its full dotted name; blocks come before what they hold."""
    for layer in layers:
        path = prefix + layer.name
        yield path, layer
        if isinstance(layer, Block):
            yield from walk(layer.layers, path + ".")


def dropout_sites(layers: tuple[Layer, ...]) -> tuple[Dropout, ...]:
    """The dropout sites in order of evaluation: the order in which a seed's random numbers are laid out."""
    return tuple(layer for _, layer in walk(layers) if isinstance(layer, Dropout))


def parameter_count(layer: Layer) -> int:
    """Trainable numbers of one layer, those of a block's inner layers not included."""
    match layer:
        case Linear(inputs=inputs, outputs=outputs):
            return inputs * outputs + outputs
        case Norm(width=width):
            return 2 * width
        case _:
            return 0


def flops(layer: Layer) -> int:
    """Floating-point operations for one row in eval mode (a multiply-add counts as two)."""
    match layer:
        case Linear(inputs=inputs, outputs=outputs):
            return 2 * inputs * outputs
        case Norm(kind="batch"):
            return 0  # folded into the preceding linear layer
        case Norm(width=width):
            return 7 * width
        case Activation(width=width) | Dropout(width=width):
            return width
        case Block(residual=True, layers=layers):
            return next((layer.outputs for layer in layers if isinstance(layer, Linear)), 0)
        case _:
            return 0
