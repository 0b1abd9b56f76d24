"""What a compiled network consists of. Values only: `plan` makes them, `tiles` and `kernel` carry them out.

x is [pairs, units], or `times` vectors for each pair, one after the other. The last four steps are PyTorch's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from models.layers import ActivationName, Patches


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """x W + b, from `inputs` to `outputs` units, for each of `times` vectors.

    Laid out for PyTorch, weight is [inputs, outputs] and bias [outputs], both widths filled up with zeros; for the
    kernel, see `kernel.program`.
    """

    weight: Tensor
    bias: Tensor
    inputs: int
    outputs: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Activate:
    """An elementwise function, in place."""

    function: ActivationName


@dataclass(frozen=True, slots=True, eq=False)
class Normalise:
    """Layer normalisation over the first `width` units of each vector: weight [width], bias [width]."""

    weight: Tensor
    bias: Tensor
    width: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Multiply by the mask of dropout site number `site`, whose units are those of `times` vectors."""

    site: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Keep:
    """Remember x for the next AddKept."""


@dataclass(frozen=True, slots=True)
class AddKept:
    """Add what the matching Keep remembered."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Cut an image into patches, a vector for each; see `models.layers.Patches`."""

    image: Patches


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Put a vector of zeros before the others of each pair, and add `values` [times, width] to all of them."""

    values: Tensor


@dataclass(frozen=True, slots=True)
class Turn:
    """From `times` vectors of `width` units to `width` vectors of `times` units."""

    times: int
    width: int


@dataclass(frozen=True, slots=True)
class TakeFirst:
    """Leave the first of `times` vectors."""

    times: int


Step: TypeAlias = Product | Activate | Normalise | Drop | Keep | AddKept | Patch | Place | Turn | TakeFirst
