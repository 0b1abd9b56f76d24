"""Columns → what they are: numbers, booleans or categories. Refuses what can't be learnt from, and says why.

Knows nothing of files, networks or how rows are divided.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from models.features import Float64
from models.tables.errors import UnusableTable, listed, shown
from models.tables.reading import Table

# A column of which so many are numbers was meant to be one.
_MOSTLY = 0.8
MOST_CATEGORIES = 1000
_NAMES_OF_THEIR_OWN = 0.5  # of all rows: texts that nearly every row has another of say nothing


@dataclass(frozen=True, slots=True)
class Column:
    """One column: numbers (booleans as 0 and 1), NaN where missing; or texts, None where missing."""

    name: str
    kind: Literal["number", "boolean", "category"]
    numbers: Float64
    texts: tuple[str | None, ...] = ()

    @property
    def missing(self) -> int:
        """How many values are missing."""
        return self.texts.count(None) if self.kind == "category" else int(np.isnan(self.numbers).sum())

    @property
    def distinct(self) -> list[str]:
        """The different values of a category or boolean, or of few whole numbers, as texts, in order."""
        if self.kind == "category":
            return sorted({text for text in self.texts if text is not None})
        found = np.unique(self.numbers[~np.isnan(self.numbers)])
        return [_label(value, self.kind) for value in found.tolist()]

    def labels(self) -> list[str | None]:
        """Every value as a text."""
        if self.kind == "category":
            return list(self.texts)
        return [None if np.isnan(value) else _label(value, self.kind) for value in self.numbers.tolist()]


def understand(table: Table, name: str, categories: Collection[str] = ()) -> Column:
    """What a column of a table is; those in `categories` are that, whatever they look like. Raises UnusableTable."""
    column = table.columns[name]
    if name in categories:
        texts = column.to_list() if column.dtype == pl.String else [_text(value) for value in column.to_list()]
        return Column(name, "category", np.empty(0), tuple(texts))
    if column.dtype == pl.Boolean:
        return Column(name, "boolean", _floats(column))
    if column.dtype != pl.String:
        return _number(name, column, column)
    truths = column.str.to_lowercase()
    if column.null_count() < len(column) and truths.is_in(["true", "false"]).all():
        return Column(name, "boolean", _floats(truths == "true"))
    numbers = column.cast(pl.Float64, strict=False)
    present = len(column) - column.null_count()
    are_numbers = len(column) - numbers.null_count()
    if are_numbers == present:
        return _number(name, column, numbers)
    if are_numbers >= _MOSTLY * present:
        row = int((column.is_not_null() & numbers.is_null()).arg_max() or 0)
        text = shown(column[row])
        raise UnusableTable(
            f"column {shown(name)}, row {row + 1}: {text} is not a number, and {are_numbers} of {present} values are",
            f"correct it, or say --missing {text} or --category {shown(name)}",
        )
    return Column(name, "category", np.empty(0), tuple(column.to_list()))


def check_category(column: Column, rows: int) -> None:
    """Refuses texts that are nearly all different: UnusableTable."""
    count = len(column.distinct)
    if count > MOST_CATEGORIES or count > max(20, _NAMES_OF_THEIR_OWN * rows):
        raise UnusableTable(
            f"column {shown(column.name)} has {count:,} different texts in {rows:,} rows, such as "
            f"{listed([shown(text) for text in column.distinct], 3)}: too many to learn from; leave it out with "
            f"--drop {shown(column.name)}"
        )


def _number(name: str, column: pl.Series, numbers: pl.Series) -> Column:
    infinite = numbers.is_infinite().fill_null(value=False)
    if infinite.any():
        row = int(infinite.arg_max() or 0)
        raise UnusableTable(
            f"column {shown(name)}, row {row + 1}: {shown(column[row])} is not a finite number",
            f"correct it, or say --missing {shown(column[row])}",
        )
    return Column(name, "number", _floats(numbers.fill_nan(None)))


def _floats(column: pl.Series) -> Float64:
    return np.asarray(column.cast(pl.Float64).fill_null(float("nan")).to_numpy(), np.float64).copy()


def _label(value: float, kind: str) -> str:
    return ("true" if value else "false") if kind == "boolean" else str(_text(value))


def _text(value: float | str | bool | None) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else None if value is None else str(value)
