"""Rows to calibrate a version with: those that a recipe kept for validation, or a file.

Knows nothing of networks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.data import Dataset, Split
from models.features import Boolean, Category, Float64, Input, InvalidRows
from models.manifest import Manifest
from models.mixed import standard_of
from models.tables.columns import Column, understand
from models.tables.errors import UnusableTable, shown
from models.tables.reading import Table, read_table

FEWEST = 10  # rows: with fewer there is no interval at 90 %


class Unusable(Exception):
    """Rows that a version can't be calibrated with; the message says why, in a line."""


class HeldOut(NamedTuple):
    """Inputs [rows, features] in raw units; targets [rows, outputs] in raw units, or classes [rows]; where from."""

    inputs: Float64
    targets: npt.NDArray[Any]
    source: str


def of_dataset(dataset: Dataset, parts: Split) -> HeldOut:
    """The validation rows of a table: no weight was fitted to them, though they decided when to stop."""
    rows = parts.validation
    return HeldOut(dataset.inputs[rows], dataset.targets[rows], f"validation rows of {dataset.source}")


def of_file(path: Path, manifest: Manifest) -> HeldOut:
    """The rows of a CSV or Parquet file that has the inputs, and the outputs or one more column for the class, by name.

    Values are written as in the tables that models are trained from, and read as the service reads raw rows. Raises
    Unusable.
    """
    try:
        table = read_table(path)
        learnt = _learnt(path, list(table.columns), manifest)
        if table.rows < FEWEST:
            raise Unusable(f"{path} has {table.rows} rows; {FEWEST} or more are needed")
        inputs = {each.name: _values(table, each) for each in manifest.inputs}
        targets = [understand(table, name, [] if manifest.task == "regression" else learnt) for name in learnt]
    except UnusableTable as error:
        raise Unusable(error.what) from error
    objects = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    try:
        rows = standard_of(manifest.inputs).read(objects)
    except InvalidRows as error:
        (field, message), *_ = error.complaints
        row, _, column = field.removeprefix("inputs[").partition("].")
        raise Unusable(f"{path}: column {shown(column)}, row {int(row) + 1} {message}") from None
    known = _numbers if manifest.task == "regression" else _classes
    return HeldOut(rows, known(path, targets, manifest), path.name)


def _learnt(path: Path, header: list[str], manifest: Manifest) -> list[str]:
    """The names of the columns that hold what was learnt."""
    inputs = [each.name for each in manifest.inputs]
    outputs = list(manifest.labels) if manifest.task == "regression" else []
    if missing := [name for name in (*inputs, *outputs) if name not in header]:
        raise Unusable(f"{path} has no column {missing[0]!r}")
    others = [name for name in header if name not in inputs]
    if manifest.task == "classification" and len(others) != 1:
        raise Unusable(f"{path} must have one column besides the inputs, for the classes; it has {len(others)}")
    return outputs or others


def _values(table: Table, kind: Input) -> list[float | bool | str | None]:
    """A column as a JSON row would have it: None is missing."""
    column = understand(table, kind.name, [kind.name] if isinstance(kind, Category) else [])
    if column.kind == "category":
        return list(column.texts)
    truths = isinstance(kind, Boolean) and column.kind == "boolean"
    numbers: list[float] = column.numbers.tolist()
    return [None if math.isnan(number) else bool(number) if truths else number for number in numbers]


def _numbers(path: Path, targets: list[Column], _: Manifest) -> Float64:
    for target in targets:
        if target.kind != "number":
            raise Unusable(f"{path}: column {shown(target.name)} has values that are no numbers")
    numbers = np.stack([target.numbers for target in targets], axis=1)
    if np.isnan(numbers).any():
        row, column = np.argwhere(np.isnan(numbers))[0]
        raise Unusable(f"{path}: column {shown(targets[column].name)}, row {row + 1} has no value to compare with")
    return numbers


def _classes(path: Path, targets: list[Column], manifest: Manifest) -> npt.NDArray[np.int64]:
    places = {label: place for place, label in enumerate(manifest.labels)}
    labels = targets[0].labels()
    if unknown := next((number for number, label in enumerate(labels, 1) if label not in places), None):
        raise Unusable(f"{path}: row {unknown} has a class that the model does not have")
    return np.array([places[label or ""] for label in labels])
