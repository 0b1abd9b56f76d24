"""Raw rows ↔ standardised tensors: what the inputs and outputs of a model are called and measured in.

Knows nothing of networks or files, and nothing of HTTP: rows are what any JSON reader returns, or arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

MAX_COMPLAINTS = 10
_BLOCK = 256  # rows
_FEW = 128  # numbers
_NUMBER = frozenset((float, int))
NOT_FINITE = "must be a finite number"
_LARGEST_EXACT = 2**53

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


class InvalidRows(ValueError):
    """Rows that can't be read. `complaints` are at most ten (field, message) pairs that never quote a value."""

    def __init__(self, complaints: Sequence[tuple[str, str]]) -> None:
        self.complaints = tuple(complaints[:MAX_COMPLAINTS])
        super().__init__("; ".join(f"{field}: {message}" for field, message in self.complaints))


class _Column(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Missing = Annotated[bool, Field(exclude_if=lambda missing: not missing)]  # left out of the JSON where it is false


class Feature(_Column):
    """One input column: a number in raw units, standardised as (x − mean) / scale.

    `range` is that of the training rows, None where it is not known. Where values may be `missing`, the network sees 0
    in their stead, and beside it whether the value is missing.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["number"] = "number"
    units: str | None = None
    range: tuple[float, float] | None
    mean: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0
    missing: Missing = False

    @property
    def width(self) -> int:
        """Numbers that the network sees."""
        return 1 + self.missing

    @property
    def limits(self) -> tuple[float, float]:
        """Between which values lay in training."""
        return self.range or (-math.inf, math.inf)


class Boolean(_Column):
    """One input column: true or false; as numbers, 1 or 0, which are standardised like others."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["boolean"]
    mean: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0
    missing: Missing = False

    @property
    def width(self) -> int:
        """Numbers that the network sees."""
        return 1 + self.missing

    @property
    def limits(self) -> tuple[float, float]:
        """Between which values lay in training."""
        return 0.0, 1.0


class Category(_Column):
    """One input column: one of some texts; as a number, its place among them.

    The network sees one number for each category, and before them one for all that is none of them: what is missing,
    what was too rare in training to be learnt, and what was never seen. As a number that is UNKNOWN.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["category"]
    categories: Annotated[tuple[str, ...], Field(min_length=1)]

    @property
    def width(self) -> int:
        """Numbers that the network sees."""
        return 1 + len(self.categories)

    @property
    def limits(self) -> tuple[float, float]:
        """Between which values lay in training; outside is what is unknown."""
        return 0.0, len(self.categories) - 1.0


UNKNOWN = -1.0

Input: TypeAlias = Annotated[Feature | Boolean | Category, Field(discriminator="kind")]


class Target(_Column):
    """One output column of a regression: raw value = standardised value × scale + mean."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    units: str | None = None
    mean: float
    scale: Annotated[float, Field(gt=0)]


class ClassLabel(_Column):
    """One class of a classification; its place in the list is its index."""

    name: Annotated[str, Field(min_length=1, max_length=200)]


def column_statistics(columns: Float64) -> tuple[Float64, Float64]:
    """Mean and population standard deviation of each column of [rows, columns]; a constant column gets scale 1."""
    mean = columns.mean(axis=0)
    scale = columns.std(axis=0)
    # A constant like 0.1 has a mean that is rounded, and so a deviation of 1e-17 rather than none.
    varies = (np.ptp(columns, axis=0) > 0) & (scale > 0)
    return mean, np.where(varies, scale, 1.0)


class Standard:
    """Raw rows → what the network sees, for inputs that are plain numbers; made ready once for many rows.

    `names` are those of the inputs. `models.mixed` does the same for inputs of other kinds, and for images.
    """

    __slots__ = ("_mean", "_scale", "names")

    def __init__(self, features: Sequence[Feature]) -> None:
        self.names = tuple(feature.name for feature in features)
        self._mean = np.array([feature.mean for feature in features])
        self._scale = np.array([feature.scale for feature in features])

    @np.errstate(over="ignore")
    def __call__(self, rows: Float64) -> Float32:
        """[rows, features] in raw units → [rows, features] in standard units, computed in float64.

        Raises InvalidRows where a value is so far out that float32 can't hold it.
        """
        standard: Float32 = ((rows - self._mean) / self._scale).astype(np.float32)
        if not _all_finite(standard):
            raise out_of_place(~np.isfinite(standard), self.names, "too far outside the model's range")
        return standard

    def read(self, inputs: Any) -> Float64:
        """Parsed JSON rows → [rows, inputs] in raw units; see `read_rows`."""
        return read_rows(inputs, self.names)

    def read_flat(self, values: list[Any]) -> Float64:
        """Parsed JSON numbers, row after row → [rows, inputs] in raw units; see `read_flat`."""
        return read_flat(values, self.names)

    def read_array(self, numbers: npt.NDArray[Any]) -> Float64:
        """Numbers of any kind [rows, inputs] → the same in float64; see `read_array`."""
        return read_array(numbers, self.names)


def read_rows(inputs: Any, names: Sequence[str]) -> Float64:
    """Parsed JSON rows → [rows, features] float64 in raw units, in the order of the features' names.

    A row is a list of numbers in that order or an object keyed by feature names; the first row says which, and the
    others must agree. Raises InvalidRows, naming row and feature.
    """
    quickly = _single_row(inputs, len(names))
    return _rows(inputs, names) if quickly is None else quickly


def read_flat(values: list[Any], names: Sequence[str]) -> Float64:
    """Parsed JSON numbers, row after row → [rows, features] float64. Raises InvalidRows, naming row and feature."""
    width = len(names)
    rows = np.empty((len(values) // width, width))
    for start in range(0, len(rows), _BLOCK):
        end = start + _BLOCK
        rows[start:end] = _numbers(values[start * width : end * width], start, names)
    return rows


def read_array(numbers: npt.NDArray[Any], names: Sequence[str]) -> Float64:
    """Numbers of any kind [rows, features] → float64, exactly. Raises InvalidRows, naming row and feature."""
    rows = numbers.astype(np.float64)
    integers = numbers.dtype.kind in "iu"
    if not (integers or _all_finite(rows)):
        raise out_of_place(~np.isfinite(rows), names, NOT_FINITE)
    if integers and numbers.dtype.itemsize == 8 and not (exact := _exact(numbers)).all():
        raise out_of_place(~exact, names, "is an integer that float64 can't hold exactly")
    return rows


def _exact(integers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which 64-bit integers have at most 53 digits in binary, leaving out the zeros at their end."""
    lowest = np.where(integers == 0, integers.dtype.type(1), integers & -integers)
    odd = integers // lowest
    within: npt.NDArray[np.bool_] = (odd <= _LARGEST_EXACT) & (odd >= -_LARGEST_EXACT)
    return within


def out_of_place(where: npt.NDArray[np.bool_], names: Sequence[str], message: str) -> InvalidRows:
    """A complaint about each value [rows, inputs] for which `where` is true, or about the first ten of them."""
    return InvalidRows([(f"inputs[{i}].{names[j]}", message) for i, j in np.argwhere(where)[:MAX_COMPLAINTS]])


def _single_row(inputs: Any, width: int) -> Float64 | None:
    """The one row that most requests have, if it is a list and nothing is wrong with it: [1, features]."""
    if type(inputs) is list and len(inputs) == 1:
        row = inputs[0]
        if type(row) is list and len(row) == width and _NUMBER.issuperset(map(type, row)):
            try:
                # A sum is finite only if all its parts are.
                return np.array(inputs, np.float64) if math.isfinite(sum(row, 0.0)) else None
            except OverflowError:  # an integer of more than 308 digits
                pass
    return None


def _rows(inputs: Any, names: Sequence[str]) -> Float64:
    blocks = [_numbers(values, start, names) for start, values in blocks_of_values(inputs, names)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def blocks_of_values(inputs: Any, names: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
    """The values of parsed JSON rows in the order of the names, in blocks of rows, each with its first row's number.

    In blocks, so that no single step over a large request holds the interpreter for long. Raises InvalidRows where rows
    are not of one form, or lack values; the values themselves are not looked at.
    """
    if not isinstance(inputs, list):
        raise InvalidRows([("inputs", "must be a list of rows")])
    if not inputs:
        raise InvalidRows([("inputs", "must have at least one row")])
    if type(inputs[0]) in _NUMBER and not {list, dict}.intersection(map(type, inputs)):
        raise InvalidRows([("inputs", "must be a list of rows: a single row is [[…]], not […]")])
    read = _values_of_objects if isinstance(inputs[0], dict) else _values_of_lists
    for start in range(0, len(inputs), _BLOCK):
        yield start, read(inputs[start : start + _BLOCK], start, names)


def _all_finite(numbers: Float64 | Float32) -> bool:
    # Where numbers are few, one call to NumPy costs more than all of them. A sum that overflows proves nothing.
    few = numbers.size <= _FEW
    return (few and math.isfinite(sum(numbers.ravel().tolist()))) or bool(np.isfinite(numbers).all())


def _numbers(values: list[Any], start: int, names: Sequence[str]) -> Float64:
    """The values of a block that begins with row `start`: [rows, features], all finite."""
    # One pass over the types at C speed: float() would let true and "1.5" through.
    if _NUMBER.issuperset(map(type, values)):
        try:
            numbers = np.fromiter(values, np.float64, len(values)).reshape(-1, len(names))
        except OverflowError:  # an integer of more than 308 digits
            pass
        else:
            if _all_finite(numbers):
                return numbers
    raise InvalidRows(_complaints_about_values(values, start, names))


def _values_of_lists(inputs: list[Any], start: int, names: Sequence[str]) -> list[Any]:
    width = len(names)
    if set(map(type, inputs)) != {list} or set(map(len, inputs)) != {width}:
        complaints = []
        for number, row in enumerate(inputs, start):
            if isinstance(row, dict):
                complaints.append((f"inputs[{number}]", "is an object, but the first row is a list: use one form"))
            elif not isinstance(row, list):
                complaints.append((f"inputs[{number}]", "must be a list of numbers or an object of named numbers"))
            elif len(row) != width:
                complaints.append(
                    (f"inputs[{number}]", f"has {len(row)} value{'' if len(row) == 1 else 's'}, expected {width}")
                )
            if len(complaints) == MAX_COMPLAINTS:
                break
        raise InvalidRows(complaints)
    return list(chain.from_iterable(inputs))


def _values_of_objects(inputs: list[Any], start: int, names: Sequence[str]) -> list[Any]:
    known = set(names)
    complaints: list[tuple[str, str]] = []
    values: list[Any] = []
    for number, row in enumerate(inputs, start):
        if not isinstance(row, dict):
            complaints.append((f"inputs[{number}]", "is not an object, but the first row is one: use one form"))
        elif row.keys() == known:
            values.extend(map(row.__getitem__, names))
        else:
            missing = [name for name in names if name not in row]
            complaints.extend((f"inputs[{number}].{name}", "is missing") for name in missing)
            if unknown := len(row.keys() - known):
                complaints.append(
                    (f"inputs[{number}]", f"has {unknown} unknown name{'s' if unknown > 1 else ''}; {_known(names)}")
                )
        if len(complaints) >= MAX_COMPLAINTS:
            break
    if complaints:
        raise InvalidRows(complaints)
    return values


def _known(names: Sequence[str]) -> str:
    listed = ", ".join(names[:12])
    return f"known are {listed}{', …' if len(names) > 12 else ''}"


def _complaints_about_values(values: list[Any], start: int, names: Sequence[str]) -> list[tuple[str, str]]:
    complaints = []
    for place, value in enumerate(values):
        message = complaint(value)
        if message:
            number, column = divmod(place + start * len(names), len(names))
            complaints.append((f"inputs[{number}].{names[column]}", message))
            if len(complaints) == MAX_COMPLAINTS:
                break
    return complaints


def complaint(value: Any) -> str | None:
    """What is wrong with a number as JSON has it, if anything is."""
    if type(value) not in (int, float):
        return "must be a number"
    try:
        finite = np.isfinite(float(value))
    except OverflowError:
        finite = False
    return None if finite else NOT_FINITE
