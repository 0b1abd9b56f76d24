"""A state_dict whose network is known from a spec → its tensors under the names of that spec.

Names may be the spec's own; else modules are taken in order, as they stand in the file. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from models.architecture import Architecture
from models.exchange.files import ImportRefused
from models.networks import expected_tensors

_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def renamed(tensors: Mapping[str, Tensor], architecture: Architecture, *, ordered: bool) -> dict[str, Tensor]:
    """The tensors that an architecture needs, under its names. Raises ImportRefused saying what does not fit.

    `ordered` says that the order of the tensors is that of the network; else it is that of the names, 2 before 10.
    """
    expected = expected_tensors(architecture)
    if expected.keys() == tensors.keys():
        return _checked(dict(tensors), architecture)
    theirs, ours = _modules(tensors, ordered=ordered), _modules(expected, ordered=True)
    if len(theirs) != len(ours):
        raise ImportRefused(
            f"the file has {len(theirs)} modules with weights, the spec has {len(ours)}: {', '.join(ours)}"
        )
    found: dict[str, Tensor] = {}
    for one, other in zip(ours, theirs, strict=True):
        for part in ours[one]:
            found[_joined(one, part)] = _part(tensors, other, part, expected[_joined(one, part)][1], one)
    return _checked(found, architecture)


def _part(tensors: Mapping[str, Tensor], module: str, part: str, shape: tuple[int, ...], wanted: str) -> Tensor:
    name = _joined(module, part)
    if name in tensors:
        return tensors[name]
    if part == "bias":
        return torch.zeros(shape)
    if part == "num_batches_tracked":
        return torch.tensor(0)
    raise ImportRefused(f"the file has no {name}, where the spec has {_joined(wanted, part)}")


def _checked(tensors: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The same in the precision that is served, each of the shape that the architecture needs."""
    for name, (dtype, shape) in expected_tensors(architecture).items():
        if tuple(tensors[name].shape) != shape:
            raise ImportRefused(
                f"{name} has the shape {list(tensors[name].shape)} in the file, and {list(shape)} in the spec"
            )
        tensors[name] = tensors[name].detach().to(dtype).clone()
    return tensors


def _modules(names: Mapping[str, object], *, ordered: bool) -> dict[str, list[str]]:
    """The names of tensors by the module that they belong to."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, part = name.rpartition(".")
        modules.setdefault(module if part in _PARTS else name, []).append(part if part in _PARTS else "")
    return modules if ordered else dict(sorted(modules.items(), key=lambda entry: _natural(entry[0])))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _joined(module: str, part: str) -> str:
    return f"{module}.{part}" if module and part else module or part
