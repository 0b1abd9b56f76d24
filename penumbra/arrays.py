"""Numbers on their way in and out: whatever holds a table → rows; what an answer holds → arrays.

The only module that may import NumPy, and only where it is installed: without it, arrays are nested lists. Frames are
recognised by what they can do, so that neither pandas nor polars is ever imported. Knows nothing of requests.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pydantic_core import to_json

from penumbra.errors import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    # Without NumPy: nested lists.
    Floats: TypeAlias = npt.NDArray[np.float64]
    Integers: TypeAlias = npt.NDArray[np.int64]
    Doubles: TypeAlias = memoryview[float]
else:  # for those who ask for type hints at run time
    Floats = Integers = Doubles = Any

_MOST_COMPLAINTS = 10
_BYTES_PER_NUMBER = 8
_MISSING = "is missing: every row needs a finite number here"
_NOT_FINITE = "must be a finite number; it is missing, NaN or infinite"
_NOT_NUMBERS = "must be a number"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A table of numbers: `names` are its columns', None where they are in the manifest's order.

    `flat` are its numbers, row after row, as C doubles: any library's arrays, and none, come down to that.
    """

    names: tuple[str, ...] | None
    flat: Doubles
    width: int

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.flat) // self.width

    def part(self, start: int, end: int) -> Rows:
        """Rows from `start` up to `end`, not copied."""
        return replace(self, flat=self.flat[start * self.width : end * self.width])

    def nested(self) -> list[list[float]]:
        """Lists of numbers, one for each row."""
        table = self.flat.cast("B").cast("d", (self.count, self.width))
        return cast("list[list[float]]", table.tolist())

    def ordered(self, names: Sequence[str]) -> Rows:
        """The same rows with their columns in this order. Raises InvalidRequest where the names are others."""
        if self.names is None:
            if self.width != len(names):
                raise InvalidRequest.found([("inputs[0]", f"has {self.width} values, expected {len(names)}")])
            return self
        if self.names == tuple(names):
            return self
        check_names(self.names, names)
        ordered = _zeros(len(self.flat))
        for place, name in enumerate(names):
            ordered[place :: self.width] = self.flat[self.names.index(name) :: self.width]
        return Rows(None, ordered, self.width)


def read(data: Any) -> Rows:
    """Rows of whatever holds a table of numbers.

    A list of rows (lists of numbers, or dicts by input names), a two-dimensional array, a frame of pandas or polars, a
    dict of columns, or a dict of numbers, which is one row. Raises InvalidRequest, naming row and column, where
    something in it is no finite number, and TypeError for anything that isn't a table.
    """
    rows = read_any(data)
    if not rows.flat:
        raise InvalidRequest.found([("inputs", "must have at least one row")])
    if not _all_finite(rows.flat):
        _refuse_not_finite(rows)
    return rows


def unusable(rows: Rows) -> list[tuple[int, int]]:
    """Where numbers are missing or not finite: (row, column) pairs."""
    if _all_finite(rows.flat):
        return []
    return [divmod(place, rows.width) for place, value in enumerate(rows.flat) if not math.isfinite(value)]


def without(rows: Rows, left_out: set[int]) -> Rows:
    """All rows but these."""
    kept = array("d")
    for number in range(rows.count):
        if number not in left_out:
            kept.extend(rows.flat[number * rows.width : (number + 1) * rows.width])
    return replace(rows, flat=memoryview(kept))


def check_names(given: Sequence[str], expected: Sequence[str]) -> None:
    """Refuses columns that aren't just those that are expected, in any order: InvalidRequest."""
    complaints = [(f"inputs.{name}", "is missing from the columns") for name in expected if name not in given]
    if unknown := [name for name in given if name not in expected]:
        listed = ", ".join(unknown[:_MOST_COMPLAINTS])
        complaints.append(("inputs", f"has columns that the model does not take ({listed}): leave them out"))
    if len(set(given)) != len(given):
        complaints.append(("inputs", "has two columns of the same name"))
    if complaints:
        raise InvalidRequest.found(complaints[:_MOST_COMPLAINTS])


def read_any(data: Any) -> Rows:
    """The same, but what is missing or not finite is let through as NaN or infinity where a table can hold it."""
    if isinstance(data, Rows):
        return data
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if hasattr(data, "column_names") and hasattr(data, "columns"):  # Arrow's
        return _of_columns([str(name) for name in data.column_names], list(data.columns))
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        names = list(data.columns)
        # Frames that were given no names have numbers instead.
        unnamed = all(isinstance(name, int) for name in names)
        if len(set(names)) != len(names):
            raise InvalidRequest.found([("inputs", "has two columns of the same name")])
        return _of_columns(None if unnamed else [str(name) for name in names], [data[name] for name in names])
    if hasattr(data, "__array__"):
        return _of_array(data)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return _of_list(list(data))
    raise TypeError(f"rows must be a list of rows, an array, a frame or a dict, not {type(data).__name__}")


def _of_array(data: Any) -> Rows:
    import numpy as np  # whoever has an array has it

    found = np.asarray(data)
    if found.ndim != 2:
        hint = ": a single row is array[None, :]" if found.ndim == 1 else ""
        raise InvalidRequest.found([("inputs", f"must have two dimensions, rows × features, not {found.ndim}{hint}")])
    if found.dtype.kind == "O":
        return _of_list(found.tolist())
    if found.dtype.kind not in "iuf":
        raise InvalidRequest.found([("inputs", f"must be numbers, not {found.dtype}")])
    return Rows(None, _doubles(found), found.shape[1])


def _of_mapping(data: Mapping[str, Any]) -> Rows:
    names, values = [str(name) for name in data], list(data.values())
    if all(_is_number(value) for value in values):
        return Rows(tuple(names), memoryview(array("d", map(float, values))), len(names))
    if any(_is_number(value) or isinstance(value, (str, bytes)) or value is None for value in values):
        which = next(name for name, value in data.items() if not _is_number(value))
        raise InvalidRequest.found([(f"inputs.{which}", f"{_NOT_NUMBERS} where the others are (or all are columns)")])
    return _of_columns(names, values)


def _of_columns(names: list[str] | None, columns: list[Any]) -> Rows:
    """A table that is given column by column: lists, arrays, or the series of a frame."""
    width = len(columns)
    if not width:
        raise InvalidRequest.found([("inputs", "has no columns")])
    labels = names or [str(place) for place in range(width)]
    read = [_column(label, column) for label, column in zip(labels, columns, strict=True)]
    if len({len(column) for column in read}) != 1:
        raise InvalidRequest.found([("inputs", "has columns of different lengths")])
    flat = _zeros(len(read[0]) * width)
    for place, column in enumerate(read):
        flat[place::width] = column
    return Rows(None if names is None else tuple(names), flat, width)


def _column(name: str, column: Any) -> Doubles:
    """The numbers of one column as doubles; those that are missing are NaN for now."""
    if hasattr(column, "to_numpy"):
        column = column.to_numpy()
    if hasattr(column, "dtype") and column.dtype.kind in "iuf":
        return _doubles(column)
    if hasattr(column, "dtype") and column.dtype.kind != "O":
        raise InvalidRequest.found([(f"inputs.{name}", f"must be numbers, not {column.dtype}")])
    numbers = array("d")
    for row, value in enumerate(column):
        if _is_number(value):
            numbers.append(float(value))
        elif _is_missing(value):
            numbers.append(math.nan)
        else:
            raise InvalidRequest.found([(f"inputs[{row}].{name}", _NOT_NUMBERS)])
    return memoryview(numbers)


def _of_list(rows: list[Any]) -> Rows:
    if not rows:
        return Rows(None, memoryview(array("d")), 1)
    if any(map(_is_number, rows)):
        raise InvalidRequest.found([("inputs", "must be a list of rows: a single row is [[…]], not […]")])
    names = tuple(map(str, rows[0])) if isinstance(rows[0], Mapping) else None
    width = len(rows[0]) if hasattr(rows[0], "__len__") else 0
    if not width:
        raise InvalidRequest.found([("inputs[0]", "must be a list of numbers or a dict of named numbers, not empty")])
    numbers = array("d")
    for number, row in enumerate(rows):
        try:
            numbers.extend(_values(row, names, width))
        except (TypeError, ValueError) as error:
            raise InvalidRequest.found(_complaints(number, row, names, width)) from error
    return Rows(names, memoryview(numbers), width)


def _values(row: Any, names: tuple[str, ...] | None, width: int) -> list[float]:
    """The numbers of one row. Raises TypeError or ValueError: `_complaints` says why."""
    if isinstance(row, Mapping) != (names is not None) or isinstance(row, (str, bytes)) or len(row) != width:
        raise TypeError
    values = row if names is None else [row.get(name) for name in names]
    if not all(map(_is_number, values)):
        raise TypeError
    return list(map(float, values))


def _complaints(number: int, row: Any, names: tuple[str, ...] | None, width: int) -> list[tuple[str, str]]:
    place = f"inputs[{number}]"
    if isinstance(row, Mapping) and names is not None:
        missing = [(f"{place}.{name}", "is missing") for name in names if name not in row]
        unknown = [(f"{place}.{name}", "is not in the first row") for name in row if name not in names]
        wrong = [(f"{place}.{name}", _complaint(row[name])) for name in names if name in row]
        return [*missing, *unknown, *(each for each in wrong if each[1])][:_MOST_COMPLAINTS]
    if isinstance(row, Mapping) or names is not None:
        return [(place, "is not of the same form as the first row: use lists or dicts, not both")]
    if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
        return [(place, "must be a list of numbers or a dict of named numbers")]
    if len(row) != width:
        return [(place, f"has {len(row)} value{'' if len(row) == 1 else 's'}, expected {width}")]
    return [(f"{place}[{column}]", said) for column, value in enumerate(row) if (said := _complaint(value))]


def _complaint(value: Any) -> str:
    return "" if _is_number(value) else _MISSING if _is_missing(value) else _NOT_NUMBERS


def _refuse_not_finite(rows: Rows) -> None:
    complaints = [
        (f"inputs[{row}]" + (f".{rows.names[column]}" if rows.names else f"[{column}]"), _NOT_FINITE)
        for row, column in unusable(rows)[:_MOST_COMPLAINTS]
    ]
    if complaints:
        raise InvalidRequest.found(complaints)


def _is_number(value: Any) -> bool:
    """Whether it is a number: Python's or a scalar of NumPy's, but neither true nor a text that looks like one."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    return hasattr(value, "dtype") and value.dtype.kind in "iuf" and getattr(value, "ndim", 1) == 0


def _is_missing(value: Any) -> bool:
    """None, and what pandas has for it."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def _all_finite(flat: Doubles) -> bool:
    numpy = _numpy()
    # A sum is finite only if all its parts are; one that overflows proves nothing, and is looked at again.
    return bool(numpy.isfinite(numpy.asarray(flat)).all()) if numpy is not None else math.isfinite(sum(flat))


def _zeros(count: int) -> Doubles:
    return memoryview(bytearray(count * _BYTES_PER_NUMBER)).cast("d")


def _doubles(numbers: Any) -> Doubles:
    """An array of NumPy's as doubles in the order of its rows; not copied where it is just that."""
    contiguous = numbers.astype("float64", order="C", copy=False)
    if not contiguous.size:
        return memoryview(array("d"))
    return memoryview(contiguous).cast("B").cast("d")


# What answers hold


def floats(values: Any) -> Floats:
    """Numbers of an answer, of any shape, null being NaN: an array, or lists where there is no NumPy."""
    numpy = _numpy()
    if numpy is not None:
        return cast("Floats", numpy.array(values, dtype="float64"))
    return cast("Floats", _without_null(values))


def integers(values: Any) -> Integers:
    """Whole numbers of an answer, likewise."""
    numpy = _numpy()
    return cast("Integers", values if numpy is None else numpy.array(values, dtype="int64"))


def whole(values: Any) -> Integers:
    """Whole numbers that came as doubles."""
    if _numpy() is not None:
        return cast("Integers", values.astype("int64"))
    return cast("Integers", [[int(value) for value in row] for row in values])


def from_bytes(raw: memoryview, shape: tuple[int, ...]) -> Floats:
    """Doubles of this shape, from just as many bytes."""
    numpy = _numpy()
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
    numpy = _numpy()
    if numpy is not None and hasattr(parts[0], "dtype"):
        return numpy.concatenate(parts, axis=axis)
    if axis == 0:
        return list(chain.from_iterable(parts))
    return [list(chain.from_iterable(rows)) for rows in zip(*parts, strict=True)]


def as_json(fields: Mapping[str, Any]) -> bytes:
    """Fields as JSON: arrays and scalars of NumPy's too, NaN as null, numbers in their shortest digits."""
    return to_json(fields, inf_nan_mode="null", fallback=nested)


@lru_cache(maxsize=1)
def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        return None
    return np


def _without_null(values: Any) -> Any:
    if isinstance(values, list):
        return [_without_null(value) for value in values]
    return math.nan if values is None else values
