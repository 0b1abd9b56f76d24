"""The vocabulary every network is written in.

An architecture spells itself out as a tuple of these values. Three readers share that one spelling:
`networks` builds plain PyTorch modules from it, the service's engine compiles it, `describe` counts it.
Knows nothing of weights, tensors or any particular architecture.

What goes from layer to layer is a vector of units for each row; between `Patches` and `FirstToken` it is a matrix,
tokens × features or (after a `Transpose`) features × tokens, whose rows are what linear layers and norms work on. Units
are counted row by row of it: that is the order in which a dropout site's random numbers are laid out.
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
    """y = x Wᵀ + b, with W of shape [outputs, inputs], for each of `times` vectors."""

    name: str
    inputs: int
    outputs: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Norm:
    """Batch normalisation (over rows, with running statistics) or layer normalisation (over units).

    Layer normalisation is over the `width` numbers of each of `times` vectors.
    """

    name: str
    kind: Literal["batch", "layer"]
    width: int
    times: int = 1
    epsilon: float = NORM_EPSILON


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise non-linearity."""

    name: str
    function: ActivationName
    width: int


@dataclass(frozen=True, slots=True)
class Dropout:
    """A dropout site: a place where each of `width` units, in `times` vectors, may be dropped with probability `p`."""

    name: str
    width: int
    p: float
    inplace: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class Block:
    """A named run of layers; with `residual`, its input is added to its output."""

    name: str
    layers: tuple[Layer, ...]
    residual: bool = False


@dataclass(frozen=True, slots=True)
class Patches:
    """An image, height × width × channels, cut into square patches: [tokens, channels × patch × patch].

    Patches follow one another row by row; the numbers of a patch are in the order of a convolution's weights.
    """

    name: str
    height: int
    width: int
    channels: int
    patch: int

    @property
    def tokens(self) -> int:
        """How many patches there are."""
        return (self.height // self.patch) * (self.width // self.patch)


@dataclass(frozen=True, slots=True)
class ClassToken:
    """A learned vector before the others; `tokens` counts it."""

    name: str
    tokens: int
    width: int


@dataclass(frozen=True, slots=True)
class Positions:
    """A learned vector for the class token and for each place of the grid of patches, added.

    Where they were `learnt` on another grid than `grid`, they are resampled from it bilinearly.
    """

    name: str
    learnt: tuple[int, int]
    grid: tuple[int, int]
    width: int

    @property
    def tokens(self) -> int:
        """Places of the grid, and the class token."""
        return self.grid[0] * self.grid[1] + 1

    @property
    def vectors(self) -> int:
        """Vectors that are learnt."""
        return self.learnt[0] * self.learnt[1] + 1


@dataclass(frozen=True, slots=True)
class Transpose:
    """[rows, columns] → [columns, rows]."""

    name: str
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class FirstToken:
    """[tokens, width] → [width]: the class token's features."""

    name: str
    tokens: int
    width: int


Layer: TypeAlias = (
    Linear | Norm | Activation | Dropout | Block | Patches | ClassToken | Positions | Transpose | FirstToken
)


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
        case ClassToken(width=width):
            return width
        case Positions(vectors=vectors, width=width):
            return vectors * width
        case _:
            return 0


def flops(layer: Layer) -> int:
    """Floating-point operations for one row in eval mode (a multiply-add counts as two)."""
    match layer:
        case Linear(inputs=inputs, outputs=outputs, times=times):
            return 2 * inputs * outputs * times
        case Norm(kind="batch"):
            return 0  # folded into the preceding linear layer
        case Norm(width=width, times=times):
            return 7 * width * times
        case Activation(width=width) | Dropout(width=width):
            return width
        case Positions(tokens=tokens, width=width):
            return tokens * width
        case Block(residual=True, layers=layers):
            # What is added is as large as what the block takes in, and so as what comes out of its last product.
            last = next((layer for layer in reversed(layers) if isinstance(layer, Linear)), None)
            return last.outputs * last.times if last else 0
        case _:
            return 0
