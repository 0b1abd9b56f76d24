"""What a compiled network consists of. Values only: `plan` makes them, `tiles` and `kernel` carry them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from models.layers import ActivationName


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """x W + b, from `inputs` to `outputs` units.

    Laid out for PyTorch, weight is [inputs, outputs] and bias [outputs], both widths filled up with zeros; for the
    kernel, see `kernel.program`.
    """

    weight: Tensor
    bias: Tensor
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Activate:
    """An elementwise function, in place."""

    function: ActivationName


@dataclass(frozen=True, slots=True, eq=False)
class Normalise:
    """Layer normalisation over the first `width` units: weight [width], bias [width]."""

    weight: Tensor
    bias: Tensor
    width: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Multiply by the mask of dropout site number `site`."""

    site: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Remember x for the next AddKept."""


@dataclass(frozen=True, slots=True)
class AddKept:
    """Add what the matching Keep remembered."""


Step: TypeAlias = Product | Activate | Normalise | Drop | Keep | AddKept
