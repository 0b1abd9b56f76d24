"""Files of weights → tensors by name, or an nn.Sequential. No file runs code: what is no plain layer is refused.

Knows nothing of specs or of what the tensors are for.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn


class ImportRefused(Exception):
    """Something that can't be imported. The message says what, and what could be."""


# What a saved module may consist of; everything else in a file stays data, or is refused.
LAYERS = (
    nn.Sequential,
    nn.Linear,
    nn.Dropout,
    nn.Flatten,
    nn.Identity,
    nn.BatchNorm1d,
    nn.LayerNorm,
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.ELU,
    nn.LeakyReLU,
)
# Under which training programs keep the weights beside other things.
_KEYS = ("state_dict", "model_state_dict", "model")
# How files of torch.save begin: a zip archive, or before PyTorch 1.6 a pickle.
_BEGINNINGS = (b"PK\x03\x04", b"\x80")


def read_weights(path: Path) -> dict[str, Tensor] | nn.Sequential:
    """What a file holds: `.safetensors`, or what torch.save wrote of a state_dict or an nn.Sequential.

    Raises ImportRefused.
    """
    try:
        return _tensors(path) if path.suffix == ".safetensors" else _unwrapped(path, _saved(path))
    except OSError as error:
        raise ImportRefused(f"{path} can't be read: {error.strerror}") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load(path.read_bytes()))
    except (SafetensorError, KeyError) as error:
        raise ImportRefused(f"{path} is not a safetensors file: {error}") from error


def _saved(path: Path) -> Any:
    """What torch.save wrote, made of tensors, containers and plain layers."""
    with path.open("rb") as file:
        written_by_torch = file.read(4).startswith(_BEGINNINGS)
    try:
        with torch.serialization.safe_globals(list(LAYERS)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the reader takes any bytes for instructions, which may fail in any way
        if written_by_torch and isinstance(error, pickle.UnpicklingError):
            raise ImportRefused(_unsafe(path)) from error
        raise ImportRefused(f"{path} is not a file that PyTorch wrote") from error


def _unsafe(path: Path) -> str:
    """Which names a refused file asks for; looking is safe, nothing is imported."""
    try:
        with torch.serialization.safe_globals(list(LAYERS)):
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001  # whatever is wrong with the file, it was refused already
        names = []
    asked = f" asks for {', '.join(names[:3])}, which" if names else " has something in it that"
    return (
        f"{path}{asked} is neither a tensor nor a plain layer: no code in a file is run. "
        "Save a state_dict, or an nn.Sequential of " + ", ".join(layer.__name__ for layer in LAYERS[1:])
    )


def _unwrapped(path: Path, found: Any) -> dict[str, Tensor] | nn.Sequential:
    if isinstance(found, nn.Sequential):
        return found
    if isinstance(found, Mapping):
        for key in _KEYS:
            if isinstance(found.get(key), (Mapping, nn.Sequential)):
                return _unwrapped(path, found[key])
        if found and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in found.items()):
            return dict(found)
    raise ImportRefused(f"{path} holds neither a state_dict nor an nn.Sequential")
