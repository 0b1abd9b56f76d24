"""What answers hold: numbers of any shape → arrays, and arrays → JSON.

The only module that may import NumPy, and only where it is installed: without it, arrays are nested lists. Knows
nothing of requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pydantic_core import to_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    # Without NumPy: nested lists.
    Floats: TypeAlias = npt.NDArray[np.float64]
    Integers: TypeAlias = npt.NDArray[np.int64]
else:  # for those who ask for type hints at run time
    Floats = Integers = Any


@lru_cache(maxsize=1)
def numpy_or_none() -> Any:
    """NumPy, or None where it is not installed."""
    try:
        import numpy as np
    except ImportError:
        return None
    return np


def floats(values: Any) -> Floats:
    """Numbers of an answer, of any shape, null being NaN: an array, or lists where there is no NumPy."""
    numpy = numpy_or_none()
    if numpy is not None:
        return cast("Floats", numpy.array(values, dtype="float64"))
    return cast("Floats", _without_null(values))


def integers(values: Any) -> Integers:
    """Whole numbers of an answer, likewise."""
    numpy = numpy_or_none()
    return cast("Integers", values if numpy is None else numpy.array(values, dtype="int64"))


def whole(values: Any) -> Integers:
    """Whole numbers that came as doubles."""
    if numpy_or_none() is not None:
        return cast("Integers", values.astype("int64"))
    return cast("Integers", [[int(value) for value in row] for row in values])


def from_bytes(raw: memoryview, shape: tuple[int, ...]) -> Floats:
    """Doubles of this shape, from just as many bytes."""
    numpy = numpy_or_none()
    if numpy is not None:
        return cast("Floats", numpy.frombuffer(raw, "<f8").reshape(shape).copy())
    return cast("Floats", raw.cast("d", shape).tolist() if math.prod(shape) else [])


def nested(values: Any) -> Any:
    """An array as nested lists; lists as they are."""
    return values.tolist() if hasattr(values, "tolist") else values


def concatenated(parts: Sequence[Any], axis: int = 0) -> Any:
    """Arrays side by side along an axis, 0 or 1; lists likewise."""
    if len(parts) == 1:
        return parts[0]
    numpy = numpy_or_none()
    if numpy is not None and hasattr(parts[0], "dtype"):
        return numpy.concatenate(parts, axis=axis)
    if axis == 0:
        return list(chain.from_iterable(parts))
    return [list(chain.from_iterable(rows)) for rows in zip(*parts, strict=True)]


def as_json(fields: Mapping[str, Any]) -> bytes:
    """Fields as JSON: arrays and scalars of NumPy's too, NaN as null, numbers in their shortest digits."""
    return to_json(fields, inf_nan_mode="null", fallback=nested)


def _without_null(values: Any) -> Any:
    if isinstance(values, list):
        return [_without_null(value) for value in values]
    return math.nan if values is None else values
