"""Raw rows of mixed kinds, and images: how they are read, and what the network sees of them.

Knows nothing of networks or files, and nothing of HTTP: rows are what any JSON reader returns, or arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from models.features import (
    MAX_COMPLAINTS,
    NOT_FINITE,
    UNKNOWN,
    Boolean,
    Category,
    Feature,
    Float32,
    Float64,
    Input,
    InvalidRows,
    Standard,
    blocks_of_values,
    complaint,
    out_of_place,
)

_NONE_WAS_MISSING = "must not be null: no value was missing in training"


def standard_of(inputs: Sequence[Input], image: Sequence[int] | None = None) -> Standard:
    """How the rows of a model with these inputs are read and seen.

    `image` is height, width and perhaps channels, where the inputs are the numbers of an image.
    """
    plain = [each for each in inputs if isinstance(each, Feature) and not each.missing]
    if len(plain) < len(inputs):
        return Mixed(inputs)
    return Images(plain, image) if image else Standard(plain)


def standardise(rows: Float64, inputs: Sequence[Input]) -> Float32:
    """What the network sees of rows [rows, inputs], for those who ask once; see `Standard`."""
    return standard_of(inputs)(rows)


class Images(Standard):
    """Rows that are images: flat, or nested as height × width (× channels)."""

    __slots__ = ("_image",)

    def __init__(self, inputs: Sequence[Feature], image: Sequence[int]) -> None:
        super().__init__(inputs)
        self._image = tuple(image)

    def read(self, inputs: Any) -> Float64:
        """Parsed JSON rows, each a flat list, a nested one, or an object."""
        nested = isinstance(inputs, list) and any(
            isinstance(row, list) and row and isinstance(row[0], list) for row in inputs
        )
        return super().read([self._flat(row, number) for number, row in enumerate(inputs)] if nested else inputs)

    def _flat(self, row: Any, number: int) -> list[Any]:
        """A nested row's numbers one after the other; a row that is not nested, as it is."""
        height, width, *channels = self._image
        try:
            # A single channel may be spelt out or not.
            deep = isinstance(row[0][0], list)
            return _leaves(row, (height, width, *(channels if len(channels) and channels != [1] else [1] * deep)))
        except (TypeError, IndexError, KeyError):
            if isinstance(row, list) and row and not isinstance(row[0], list):
                raise InvalidRows([(f"inputs[{number}]", "is flat, but another row is nested: use one form")]) from None
        expected = " × ".join(map(str, self._image))
        raise InvalidRows([(f"inputs[{number}]", f"must be an image of {expected} numbers, nested or flat")])


def _leaves(value: Any, shape: Sequence[int]) -> list[Any]:
    """What is in lists of lists of this shape, in order. Raises TypeError where they have another one."""
    if not isinstance(value, list) or len(value) != shape[0]:
        raise TypeError
    return value if len(shape) == 1 else [leaf for inner in value for leaf in _leaves(inner, shape[1:])]


class Mixed(Standard):
    """Rows of numbers, booleans and categories, some of which may be missing.

    As an array a row is numbers all the same: a category is its place in the list of them, or UNKNOWN; a boolean is 0
    or 1; what is missing is NaN.
    """

    __slots__ = ("_codes", "_inputs", "_numbers", "_offsets", "_places", "_width")

    def __init__(self, inputs: Sequence[Input]) -> None:
        scaled = [(place, each) for place, each in enumerate(inputs) if not isinstance(each, Category)]
        self.names = tuple(each.name for each in inputs)
        self._mean = np.array([each.mean for _, each in scaled])
        self._scale = np.array([each.scale for _, each in scaled])
        self._inputs = tuple(inputs)
        starts = list(accumulate((each.width for each in inputs), initial=0))
        self._width = starts.pop()
        # Of the scaled inputs: where they are in a row, where the network has them, and which may be missing.
        self._numbers = np.array([place for place, _ in scaled], np.int64)
        self._places = np.array([starts[place] for place, _ in scaled], np.int64)
        # Of the categories: where they are in a row, and where the network has its first category.
        self._codes = np.array([i for i, each in enumerate(inputs) if isinstance(each, Category)], np.int64)
        self._offsets = np.array([starts[place] + 1 for place in self._codes], np.int64)

    @np.errstate(over="ignore", invalid="ignore")
    def __call__(self, rows: Float64) -> Float32:
        """[rows, inputs] → [rows, numbers that the network sees].

        Raises InvalidRows where a value is so far out that float32 can't hold it.
        """
        seen = np.zeros((len(rows), self._width), np.float32)
        numbers = rows[:, self._numbers]
        missing = np.isnan(numbers)
        standard = ((numbers - self._mean) / self._scale).astype(np.float32)
        if not np.isfinite(standard[~missing]).all():
            where = np.zeros(rows.shape, np.bool_)
            where[:, self._numbers] = ~(np.isfinite(standard) | missing)
            raise out_of_place(where, self.names, "too far outside the model's range")
        seen[:, self._places] = np.where(missing, 0.0, standard)
        of_rows, of_numbers = np.nonzero(missing)
        seen[of_rows, self._places[of_numbers] + 1] = 1.0
        every = np.arange(len(rows))[:, None]
        seen[every, self._offsets + rows[:, self._codes].astype(np.int64)] = 1.0
        return seen

    def read(self, inputs: Any) -> Float64:
        """Parsed JSON rows: lists in the order of the inputs, or objects keyed by their names; null is missing."""
        return np.concatenate([self._block(*block) for block in blocks_of_values(inputs, self.names)])

    def _block(self, start: int, values: list[Any]) -> Float64:
        width = len(self.names)
        rows = np.empty((len(values) // width, width))
        complaints: list[tuple[int, int, str]] = []
        for column, read in enumerate(self._readers()):
            for row, value in enumerate(values[column::width]):
                found = read(value)
                if isinstance(found, str):
                    complaints.append((start + row, column, found))
                    break  # one for each column, so that all columns that are wrong are named
                rows[row, column] = found
        if complaints:
            raise InvalidRows(
                [(f"inputs[{row}].{self.names[column]}", message) for row, column, message in sorted(complaints)]
            )
        return rows

    def _readers(self) -> list[Callable[[Any], float | str]]:
        """For each input, what makes a number of a value, or a complaint."""
        readers: list[Callable[[Any], float | str]] = []
        for each in self._inputs:
            match each:
                case Category(categories=categories):
                    readers.append(partial(_category, {name: float(place) for place, name in enumerate(categories)}))
                case Boolean(missing=missing):
                    readers.append(partial(_boolean, missing))
                case Feature(missing=missing):
                    readers.append(partial(_number, missing))
        return readers

    def read_flat(self, values: list[Any]) -> Float64:
        """JSON numbers, row after row, categories and booleans as numbers; null is missing."""
        width = len(self.names)
        for place, value in enumerate(values):
            message = None if value is None else complaint(value)
            if message:
                raise InvalidRows([(f"inputs[{place // width}].{self.names[place % width]}", message)])
        numbers = [math.nan if value is None else value for value in values]
        return self.read_array(np.array(numbers, np.float64).reshape(-1, width))

    def read_array(self, numbers: npt.NDArray[Any]) -> Float64:
        """Numbers of any kind [rows, inputs], categories and booleans among them; NaN is missing."""
        rows = numbers.astype(np.float64)
        complaints: list[tuple[str, str]] = []
        for column, each in enumerate(self._inputs):
            wrong, message = _wrong_numbers(rows[:, column], each)
            complaints += [(f"inputs[{row}].{each.name}", message) for row in np.flatnonzero(wrong)[:MAX_COMPLAINTS]]
        if complaints:
            raise InvalidRows(complaints)
        return rows


def _wrong_numbers(column: Float64, kind: Input) -> tuple[npt.NDArray[np.bool_], str]:
    """Which numbers stand for nothing that this kind of input can be, and what they should be."""
    match kind:
        case Category(categories=categories):
            known = np.isin(column, np.arange(UNKNOWN, len(categories)))
            return ~known, f"must be the number of a category, 0 to {len(categories) - 1}, or -1 for any other"
        case Boolean(missing=missing):
            return ~(np.isin(column, (0.0, 1.0)) | (np.isnan(column) & missing)), "must be 0 or 1"
        case Feature(missing=missing):
            return ~(np.isfinite(column) | (np.isnan(column) & missing)), NOT_FINITE


def _number(missing: bool, value: Any) -> float | str:
    if value is None:
        return math.nan if missing else _NONE_WAS_MISSING
    return complaint(value) or float(value)


def _boolean(missing: bool, value: Any) -> float | str:
    if value is None:
        return math.nan if missing else _NONE_WAS_MISSING
    return float(value) if isinstance(value, bool) else "must be true or false"


def _category(codes: dict[str, float], value: Any) -> float | str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return codes.get(value, UNKNOWN)
    # Categories that look like whole numbers may be written as such.
    return codes.get(str(value), UNKNOWN) if type(value) is int else "must be a text, or null"
