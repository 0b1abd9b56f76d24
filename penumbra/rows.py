"""Rows on their way in: whatever holds a table → numbers where there is nothing else, or columns of any values.

Frames are recognised by what they can do, so that neither pandas nor polars is ever imported. Knows nothing of models:
what values that are no numbers mean is for `inputs` to say.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from penumbra import arrays
from penumbra.errors import InvalidRequest

if TYPE_CHECKING:
    Doubles: TypeAlias = memoryview[float]
else:  # for those who ask for type hints at run time
    Doubles = Any

MOST_COMPLAINTS = 10
_BYTES_PER_NUMBER = 8


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

    @property
    def are_finite(self) -> bool:
        """Whether no number is missing, NaN or infinite."""
        numpy = arrays.numpy_or_none()
        # A sum is finite only if all its parts are; one that overflows proves nothing, and is looked at again.
        return bool(numpy.isfinite(numpy.asarray(self.flat)).all()) if numpy else math.isfinite(sum(self.flat))

    def part(self, start: int, end: int) -> Rows:
        """Rows from `start` up to `end`, not copied."""
        return replace(self, flat=self.flat[start * self.width : end * self.width])

    def without(self, left_out: set[int]) -> Rows:
        """All rows but these."""
        kept = array("d")
        for number in range(self.count):
            if number not in left_out:
                kept.extend(self.flat[number * self.width : (number + 1) * self.width])
        return replace(self, flat=memoryview(kept))

    def nested(self) -> list[list[Any]]:
        """A list of values for each row, as JSON has them."""
        table = self.flat.cast("B").cast("d", (self.count, self.width))
        return cast("list[list[Any]]", table.tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of any values, column by column; `names` are None where columns are in the manifest's order.

    Columns that are numbers may be doubles. In a table that is `written`, in a file or on a command line, texts may
    stand for numbers and truth values, too.
    """

    names: tuple[str, ...] | None
    columns: Sequence[Sequence[Any]]
    written: bool = False

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.columns[0])

    @property
    def width(self) -> int:
        """How many columns."""
        return len(self.columns)


def read(data: Any) -> Rows | Table:
    """The rows of whatever holds a table: Rows where it has nothing but numbers, missing ones perhaps, else a Table.

    A list of rows (lists of values, or dicts by input names), a two-dimensional array, a frame of pandas, polars or
    Arrow, a dict of columns, or a dict of values, which is one row. Raises InvalidRequest where rows are not of one
    form, or there are none, and TypeError for anything that isn't a table.
    """
    found = _read(data)
    if not found.count:
        raise InvalidRequest.found([("inputs", "must have at least one row")])
    return found


def _read(data: Any) -> Rows | Table:
    if isinstance(data, (Rows, Table)):
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


def _of_array(data: Any) -> Rows | Table:
    found = arrays.numpy_or_none().asarray(data)  # whoever has an array has it
    if found.ndim != 2:
        hint = ": a single row is array[None, :]" if found.ndim == 1 else ""
        raise InvalidRequest.found([("inputs", f"must have two dimensions, rows × features, not {found.ndim}{hint}")])
    if found.dtype.kind in "iuf":
        return Rows(None, doubles(found), found.shape[1])
    if found.dtype.kind in "OUb":
        return _of_list(found.tolist())
    raise _unusable("inputs", found.dtype)


def _of_mapping(data: Mapping[str, Any]) -> Rows | Table:
    names, values = [str(name) for name in data], list(data.values())
    single = [_is_single(value) for value in values]
    if not all(single):
        if any(single):
            which = names[single.index(True)]
            raise InvalidRequest.found([(f"inputs.{which}", "is a single value where others are columns")])
        return _of_columns(names, values)
    return _of_list([data])


def _of_columns(names: list[str] | None, columns: list[Any]) -> Rows | Table:
    """A table that is given column by column: lists, arrays, or the series of a frame."""
    width = len(columns)
    if not width:
        raise InvalidRequest.found([("inputs", "has no columns")])
    labels = names or [str(place) for place in range(width)]
    read = [_column(label, column) for label, column in zip(labels, columns, strict=True)]
    if len({len(column) for column in read}) != 1:
        raise InvalidRequest.found([("inputs", "has columns of different lengths")])
    named = None if names is None else tuple(names)
    if not all(isinstance(column, memoryview) for column in read):
        return Table(named, read)
    return Rows(named, side_by_side(read), width)


def side_by_side(columns: Sequence[Any]) -> Doubles:
    """Columns of doubles, row after row."""
    width = len(columns)
    flat = memoryview(bytearray(len(columns[0]) * width * _BYTES_PER_NUMBER)).cast("d")
    for place, column in enumerate(columns):
        flat[place::width] = column
    return flat


def _column(name: str, column: Any) -> Sequence[Any]:
    """One column: doubles where it has nothing but numbers, NaN among them perhaps, else what is in it."""
    if hasattr(column, "to_pylist") and not _is_of_numbers(column.type):  # Arrow's; not all of it becomes NumPy's
        return cast("list[Any]", column.to_pylist())
    if hasattr(column, "to_numpy"):
        column = column.to_numpy()
    if hasattr(column, "dtype"):
        if column.dtype.kind in "iuf":
            return doubles(column)
        if column.dtype.kind not in "OUbT":
            raise _unusable(f"inputs.{name}", column.dtype)
        column = column.tolist()
    values = list(column)
    numbers = _numbers(values)
    return values if numbers is None else numbers


def _of_list(rows: list[Any]) -> Rows | Table:
    if not rows:
        return Rows(None, memoryview(array("d")), 1)
    if any(map(is_number, rows)):
        raise InvalidRequest.found([("inputs", "must be a list of rows: a single row is [[…]], not […]")])
    names = tuple(map(str, rows[0])) if isinstance(rows[0], Mapping) else None
    width = len(rows[0]) if hasattr(rows[0], "__len__") else 0
    if not width:
        raise InvalidRequest.found([("inputs[0]", "must be a list of values or a dict of named values, not empty")])
    values: list[list[Any]] = []
    for number, row in enumerate(rows):
        if complaints := _complaints(number, row, names, width):
            raise InvalidRequest.found(complaints[:MOST_COMPLAINTS])
        values.append(list(row) if names is None else [row[name] for name in names])
    numbers = _numbers(list(chain.from_iterable(values)))
    return Table(names, list(zip(*values, strict=True))) if numbers is None else Rows(names, numbers, width)


def _numbers(values: Sequence[Any]) -> Doubles | None:
    """Values as doubles; None where they are not all numbers that doubles can hold."""
    try:
        return memoryview(array("d", map(float, values))) if all(map(is_number, values)) else None
    except OverflowError:  # an integer of more than 308 digits
        return None


def _complaints(number: int, row: Any, names: tuple[str, ...] | None, width: int) -> list[tuple[str, str]]:
    """What is wrong with the form of a row, if anything is."""
    place = f"inputs[{number}]"
    if isinstance(row, Mapping) and names is not None:
        if len(row) == width and all(name in row for name in names):
            return []
        missing = [(f"{place}.{name}", "is missing") for name in names if name not in row]
        return [*missing, *((f"{place}.{name}", "is not in the first row") for name in row if name not in names)]
    if isinstance(row, Mapping) or names is not None:
        return [(place, "is not of the same form as the first row: use lists or dicts, not both")]
    if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
        return [(place, "must be a list of values or a dict of named values")]
    if len(row) != width:
        return [(place, f"has {len(row)} value{'' if len(row) == 1 else 's'}, expected {width}")]
    return []


def is_number(value: Any) -> bool:
    """Whether it is a number: Python's or a scalar of NumPy's, but neither true nor a text that looks like one."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    return hasattr(value, "dtype") and value.dtype.kind in "iuf" and getattr(value, "ndim", 1) == 0


def is_truth(value: Any) -> bool:
    """Whether it is true or false: Python's, or a scalar of NumPy's."""
    return isinstance(value, bool) or (getattr(value, "ndim", 1) == 0 and getattr(value, "dtype", None) == "bool")


def is_missing(value: Any) -> bool:
    """None, NaN, and what pandas has for them."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"} or (is_number(value) and value != value)


def doubles(numbers: Any) -> Doubles:
    """An array of NumPy's as doubles in the order of its rows; not copied where it is just that."""
    contiguous = numbers.astype("float64", order="C", copy=False)
    if not contiguous.size:
        return memoryview(array("d"))
    return memoryview(contiguous).cast("B").cast("d")


def _is_single(value: Any) -> bool:
    return isinstance(value, (str, bytes)) or is_number(value) or is_truth(value) or is_missing(value)


def _is_of_numbers(arrow_type: Any) -> bool:
    return str(arrow_type).startswith(("int", "uint", "float", "double", "half"))


def _unusable(field: str, dtype: Any) -> InvalidRequest:
    return InvalidRequest.found([(field, f"must be numbers, texts or truth values, not {dtype}")])
