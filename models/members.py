"""Several networks in one weights file: an ensemble's members, of one architecture, one after the other.

A member's tensors have its number before their names: `members.0.head.bias`. A version without members has the plain
names. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.architecture import Architecture
from models.networks import expected_tensors


def joined(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of all members, for one file."""
    return {_name(number, name): tensor for number, own in enumerate(members) for name, tensor in own.items()}


def parted(tensors: Mapping[str, Tensor], architecture: Architecture, members: int) -> tuple[dict[str, Tensor], ...]:
    """Each member's tensors by their plain names; those of a lone network, where there are no members."""
    names = list(expected_tensors(architecture))
    if not members:
        return ({name: tensors[name] for name in names},)
    return tuple({name: tensors[_name(number, name)] for name in names} for number in range(members))


def expected(architecture: Architecture, members: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Name → (dtype, shape) of every tensor that the file must hold, and no others."""
    own = expected_tensors(architecture)
    if not members:
        return own
    return {_name(number, name): kind for number in range(members) for name, kind in own.items()}


def _name(member: int, name: str) -> str:
    return f"members.{member}.{name}"
