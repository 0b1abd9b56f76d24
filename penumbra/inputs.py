"""What a model takes, by its manifest: values → the numbers that stand for them, and back.

A category is its place in the manifest's list, or -1 for any other and for none; a boolean is 0 or 1; what is missing
is NaN. Files, jobs and requests all come down to these numbers, which travel as bytes as they are, and in JSON as the
values that they stand for. Values are read as the service reads JSON, written ones as training reads a table. Knows
nothing of requests or files.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from penumbra import arrays
from penumbra.errors import InvalidRequest
from penumbra.rows import MOST_COMPLAINTS, Rows, Table, is_missing, is_number, is_truth, side_by_side

UNKNOWN = -1.0
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-"))
_NAMES_SHOWN = 12
_SHOWN = 40  # characters of a text
_BYTES_PER_NUMBER = 8
_IS_MISSING = "is missing: the model was trained without missing values here"
_IS_INFINITE = "must be a finite number, and is infinite"


class Complaint(NamedTuple):
    """What is wrong with the value of one input in one row, which is counted from 0."""

    row: int
    name: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Coded(Rows):
    """Rows in the manifest's order, some of whose numbers stand for other values."""

    inputs: Inputs

    def nested(self) -> list[list[Any]]:
        """The values themselves: texts, truth values, and None for what is missing or unknown."""
        return self.inputs.spelled(Rows.nested(self))


@dataclass(frozen=True, slots=True)
class _Input:
    """One input: its kind is number, boolean or category; `missing` says whether its value may be so."""

    name: str
    kind: str
    missing: bool
    categories: tuple[str, ...]
    codes: Mapping[str, float]

    def read(self, value: Any) -> float | str:
        """The number that stands for a value, or what is wrong with it."""
        if self.kind == "category":
            return self._category(value)
        if is_missing(value):
            return math.nan
        if self.kind == "boolean":
            return float(value) if is_truth(value) else "must be true or false"
        try:
            return float(value) if is_number(value) else "must be a number"
        except OverflowError:
            return _IS_INFINITE

    def _category(self, value: Any) -> float | str:
        if is_missing(value):
            return UNKNOWN
        if isinstance(value, str):
            return self.codes.get(value, UNKNOWN)
        code = self.codes.get(_as_text(value))
        # Categories that are numbers may be written as such; others that are given as numbers are a mistake.
        if code is None and not (is_number(value) and any(map(_is_numeric, self.categories))):
            return "must be a text, or missing"
        return UNKNOWN if code is None else code

    def read_written(self, value: Any) -> float | str:
        """The same for a value as it is written in a file; what is no text has been read already."""
        if not isinstance(value, str):
            return self.read(value)
        text = value.strip()
        if self.kind == "category":
            return self.codes.get(value, self.codes.get(text, UNKNOWN))
        if text.lower() in _MISSING:
            return math.nan
        if self.kind == "boolean":
            truth = {"true": 1.0, "false": 0.0}.get(text.lower())
            return f"must be true or false, not {_shown(text)}" if truth is None else truth
        try:
            return float(text)
        except ValueError:
            return f"must be a number, not {_shown(text)}"

    def spelled(self, number: float) -> Any:
        """The value that a number stands for."""
        if self.kind == "category":
            return None if number < 0 else self.categories[int(number)]
        if math.isnan(number):
            return None
        return number == 1.0 if self.kind == "boolean" else number


class Inputs:
    """The inputs of a model, of which the manifest has a description each."""

    def __init__(self, described: Sequence[Mapping[str, Any]]) -> None:
        self._each = [_input(entry) for entry in described]
        self.names = tuple(each.name for each in self._each)
        self._all_numbers = all(each.kind == "number" for each in self._each)
        # Nothing but numbers, none of which may be missing.
        self.are_plain = self._all_numbers and not any(each.missing for each in self._each)

    def read(self, found: Rows | Table, *, gaps: bool = False) -> Rows:
        """The rows in the manifest's order, Coded unless all inputs are plain numbers.

        Raises InvalidRequest, naming row and column, where a value is none that the model takes; with `gaps`, values
        that may not be missing are let through as NaN or infinity nevertheless.
        """
        rows, complaints = self.coded(found)
        if complaints := complaints or ([] if gaps else self.about_gaps(rows)):
            fields = [(f"inputs[{row}].{name}", message) for row, name, message in complaints]
            raise InvalidRequest.found(fields[:MOST_COMPLAINTS])
        return rows

    def coded(self, found: Rows | Table) -> tuple[Rows, list[Complaint]]:
        """The same, with the first complaint about each column; all that is missing is NaN. Raises InvalidRequest."""
        if isinstance(found, Coded):
            return found, []
        columns, complaints = [], []
        order = self._order(found)
        if isinstance(found, Rows) and self._all_numbers and order == sorted(order):
            return self._made(found.flat), []
        for each, place in zip(self._each, order, strict=True):
            if isinstance(found, Rows):
                column, wrong = _numbers(each, found.flat[place :: found.width], written=False)
            else:
                column, wrong = _numbers(each, found.columns[place], written=found.written)
            columns.append(column)
            complaints += wrong
        return self._made(side_by_side(columns)), sorted(complaints)

    def rows_of(self, numbers: Sequence[float]) -> Rows:
        """Rows of numbers that stand for values already, one row after the other."""
        return self._made(memoryview(array("d", numbers)))

    def gaps(self, rows: Rows) -> list[tuple[int, int]]:
        """Where numbers are infinite, or missing though none was missing in training: (row, column) pairs."""
        if rows.are_finite:
            return []
        may_be_missing = [each.missing for each in self._each]
        if numpy := arrays.numpy_or_none():
            table = numpy.asarray(rows.flat).reshape(-1, rows.width)
            wrong = ~numpy.isfinite(table) & ~(numpy.isnan(table) & numpy.array(may_be_missing))
            return [(int(row), int(column)) for row, column in numpy.argwhere(wrong)]
        return [
            (place // rows.width, place % rows.width)
            for place, value in enumerate(rows.flat)
            if not (math.isfinite(value) or (math.isnan(value) and may_be_missing[place % rows.width]))
        ]

    def about_gaps(self, rows: Rows) -> list[Complaint]:
        """Complaints about the first of them."""
        return [
            Complaint(row, self.names[column], _IS_INFINITE if math.isinf(value) else _IS_MISSING)
            for row, column in self.gaps(rows)[:MOST_COMPLAINTS]
            for value in [rows.flat[row * rows.width + column]]
        ]

    def spelled(self, rows: list[list[float]]) -> list[list[Any]]:
        """The values that numbers stand for."""
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place, each in enumerate(self._each):
            if each.missing or each.kind != "number":
                columns[place] = list(map(each.spelled, columns[place]))
        return list(map(list, zip(*columns, strict=True)))

    def about_names(self, given: Sequence[str]) -> str:
        """What is wrong with the names of a row's values, in any order; nothing if they are right."""
        lacking = [name for name in self.names if name not in given]
        unknown = [name for name in given if name not in self.names]
        if len(set(given)) != len(given):
            return "has two values of the same name"
        if not unknown:
            return f"lacks {_listed(lacking)}" if lacking else ""
        known = f"known: {_listed(self.names)}"
        if not lacking:
            return f"has an unknown {_listed([repr(name) for name in unknown])}; {known}"
        quoted = _listed([repr(name) for name in lacking])
        return f"has no {quoted}, but an unknown {_listed([repr(name) for name in unknown])}; {known}"

    def _order(self, found: Rows | Table) -> list[int]:
        """Where each input is among the columns. Raises InvalidRequest where the columns are others."""
        if found.names is None:
            if found.width != len(self.names):
                values = f"{found.width} value{'' if found.width == 1 else 's'}"
                raise InvalidRequest.found([("inputs[0]", f"has {values}, expected {len(self.names)}")])
            return list(range(found.width))
        if wrong := self.about_names(found.names):
            raise InvalidRequest.found([("inputs", wrong)])
        return [found.names.index(name) for name in self.names]

    def _made(self, flat: Any) -> Rows:
        width = len(self.names)
        return Rows(None, flat, width) if self.are_plain else Coded(None, flat, width, self)


def _input(entry: Mapping[str, Any]) -> _Input:
    categories = tuple(entry.get("categories") or ())
    codes = {name: float(place) for place, name in enumerate(categories)}
    return _Input(entry["name"], entry.get("kind", "number"), bool(entry.get("missing")), categories, codes)


def _numbers(each: _Input, column: Sequence[Any], *, written: bool) -> tuple[Sequence[float], list[Complaint]]:
    """The numbers of a column, and the first complaint about it, if there is any."""
    if each.kind == "number":
        if isinstance(column, memoryview):
            return column, []
        if written and isinstance(column[0], str):
            try:
                return array("d", map(float, column)), []  # most columns of most files
            except (ValueError, TypeError):
                pass
    read = each.read_written if written else each.read
    numbers = array("d", bytes(_BYTES_PER_NUMBER * len(column)))
    known: dict[str, float | str] = {}  # texts, of which categories have few
    for row, value in enumerate(column):
        found = known.get(value) if isinstance(value, str) else read(value)
        if found is None:
            found = known[value] = read(value)
        if isinstance(found, str):
            return numbers, [Complaint(row, each.name, found)]
        numbers[row] = found
    return numbers, []


def _as_text(value: Any) -> str:
    """A number or a truth value as training writes it."""
    if is_truth(value):
        return "true" if value else "false"
    return str(int(value)) if is_number(value) and float(value).is_integer() else str(value)


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
