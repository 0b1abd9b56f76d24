"""Tensors as the protocol spells them: datatype, shape, and elements nested, flat or as bytes. Knows nothing of models.

Bytes are little-endian, row-major and without padding; a text is its length in four bytes, and then itself.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.features import Float64

Numbers = npt.NDArray[Any]

# Every datatype of numbers, with what NumPy calls it. It has no name for BF16, which is the upper half of an FP32.
NUMBERS: Mapping[str, np.dtype[Any]] = {
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BF16": np.dtype("<u2"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
FLOATS: Mapping[str, float] = {  # with the largest finite value of each
    **{name: float(np.finfo(NUMBERS[name]).max) for name in ("FP16", "FP32", "FP64")},
    "BF16": (2 - 2**-7) * 2.0**127,
}
# What answers are made of.
_NUMBER, _TEXT = "FP64", "BYTES"


class Tensor(NamedTuple):
    """A tensor of an answer: numbers, or a list of texts."""

    name: str
    values: Numbers | list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.values.shape if isinstance(self.values, np.ndarray) else (len(self.values),)

    @property
    def datatype(self) -> str:
        """Its datatype."""
        return _NUMBER if isinstance(self.values, np.ndarray) else _TEXT

    def flat(self) -> Float64 | list[str]:
        """Its elements in order, for JSON."""
        return self._numbers().ravel() if isinstance(self.values, np.ndarray) else self.values

    def raw(self) -> bytes | memoryview:
        """Its elements as bytes; numbers are not copied where they lie in order already."""
        if isinstance(self.values, np.ndarray):
            return self._numbers().ravel().view(np.uint8).data
        texts = [text.encode() for text in self.values]
        return b"".join(chain.from_iterable((len(text).to_bytes(4, "little"), text) for text in texts))

    def _numbers(self) -> Float64:
        return np.ascontiguousarray(self.values, "<f8")


def from_bytes(raw: memoryview, datatype: str, shape: tuple[int, ...]) -> Numbers:
    """Numbers of this shape, from just as many bytes as they take; not copied, and not to be written to."""
    found = np.frombuffer(raw, NUMBERS[datatype]).reshape(shape)
    return (found.astype("<u4") << 16).view("<f4") if datatype == "BF16" else found


def flattened(data: Sequence[Any], shape: tuple[int, ...]) -> list[Any] | None:
    """The elements of nested or flat data in order; None where there are not as many as the shape asks for."""
    flat = list(data)
    for depth, length in enumerate(shape[1:], start=1):
        if not (flat and all(type(part) is list for part in flat)):
            break  # flat from here on, or not at all: then there are too few
        if len(flat) != math.prod(shape[:depth]) or any(len(part) != length for part in flat):
            return None
        flat = list(chain.from_iterable(flat))
    return flat if len(flat) == math.prod(shape) else None


if sys.byteorder != "little":
    raise ImportError("tensors are read and written as they lie in memory, which must be little-endian")
