"""Files → columns of texts, numbers or truth values, by polars. Knows nothing of what is to be learnt from them.

CSV files are read as texts, so that whoever makes numbers of them can say which text is none. The separator is the one
among four that the first line has most of.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.tables.errors import UnusableTable, listed, shown

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# What people write where there is nothing.
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?")
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, all of the same length: strings, 64-bit floats or booleans; null is missing."""

    source: str
    columns: dict[str, pl.Series]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return max((len(column) for column in self.columns.values()), default=0)


def read_table(path: Path, missing: Collection[str] = ()) -> Table:
    """A CSV or Parquet file. `missing` are texts that mean so besides MISSING. Raises UnusableTable."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableTable(f"{path} can't be read: {error.strerror}") from error
    if not content.strip():
        raise UnusableTable(f"{path} is empty")
    source = f"{path.name} sha256:{hashlib.sha256(content).hexdigest()}"
    if content.startswith(b"PAR1"):
        return Table(source, _parquet(path))
    columns = _csv(path, content)
    marks = [*MISSING, *missing]
    return Table(source, {name: _without(column, marks) for name, column in columns.items()})


def _csv(path: Path, content: bytes) -> dict[str, pl.Series]:
    try:
        text = content.decode("utf-8").removeprefix(_BYTE_ORDER_MARK).rstrip("\r\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnusableTable(f"{path} is neither UTF-8 nor Parquet: line {line}; save it as CSV in UTF-8") from error
    if "\0" in text:
        raise UnusableTable(f"{path} is not a text: it has zero bytes in it")
    first = text.lstrip("\r\n").splitlines()[0]
    separator = max(_SEPARATORS, key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
    _check_names(path, names)
    try:
        frame = pl.read_csv(text.encode(), separator=separator, infer_schema=False, new_columns=names)
    except pl.exceptions.NoDataError as error:
        raise UnusableTable(f"{path} has a header and no rows") from error
    except pl.exceptions.PolarsError as error:
        raise UnusableTable(f"{path}: {_ragged(text, separator, names) or _reason(error)}") from error
    if frame.height == 0:
        raise UnusableTable(f"{path} has a header and no rows")
    # Polars takes what a short row lacks for missing; such a row ends without a last value.
    if frame[names[-1]].null_count() and (ragged := _ragged(text, separator, names)):
        raise UnusableTable(f"{path}: {ragged}")
    return {name: frame[name] for name in names}


def _check_names(path: Path, names: list[str]) -> None:
    for place, name in enumerate(names, start=1):
        if not name:
            raise UnusableTable(f"{path}: column {place} has no name; the first line must have one for every column")
        if names.index(name) != place - 1:
            raise UnusableTable(f"{path} has two columns called {shown(name)}; rename or remove one")
        if len(name) > 200:
            raise UnusableTable(f"{path}: the name of column {place} has more than 200 characters: {shown(name)}")
    if all(_is_number(name) for name in names):
        raise UnusableTable(f"{path} has numbers in its first line, where the names of the columns must be")


def _ragged(text: str, separator: str, names: list[str]) -> str | None:
    """The first row that has not as many values as there are columns."""
    for number, row in enumerate(csv.reader(text.splitlines(keepends=True), delimiter=separator)):
        if row and len(row) != len(names):
            return f"row {number} has {len(row)} values, for {len(names)} columns with {_SEPARATORS[separator]} between"
    return None


def _reason(error: Exception) -> str:
    return "can't be read: " + str(error).strip().splitlines()[0]


def _without(column: pl.Series, marks: Collection[str]) -> pl.Series:
    stripped = column.str.strip_chars()
    return stripped.set(stripped.is_in(list(marks)).fill_null(value=False), None)


def _parquet(path: Path) -> dict[str, pl.Series]:
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise UnusableTable(f"{path}: {_reason(error)}") from error
    except OSError as error:
        raise UnusableTable(f"{path}: {_reason(error)}") from error
    if frame.height == 0:
        raise UnusableTable(f"{path} has no rows")
    _check_names(path, frame.columns)
    strange = [f"{shown(name)} ({kind})" for name, kind in frame.schema.items() if not _usable(kind)]
    if strange:
        raise UnusableTable(
            f"{path} has columns of kinds that can't be learnt from: {listed(strange)}; drop them there"
        )
    return {name: _typed(frame[name]) for name in frame.columns}


def _usable(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind in (pl.Boolean, pl.String, pl.Categorical, pl.Enum, pl.Null)


def _typed(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_nan(None)
    return _without(column.cast(pl.String), [""])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
