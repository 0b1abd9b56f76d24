"""Rows to calibrate a version with: those that a recipe kept for validation, or a file.

Knows nothing of networks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from models.data import Dataset, Split
from models.features import Boolean, Category, Float64, Input, InvalidRows
from models.manifest import Manifest
from models.mixed import standard_of
from models.tables.columns import Column, understand
from models.tables.errors import UnusableTable, shown
from models.tables.reading import Table, read_table

Places: TypeAlias = npt.NDArray[np.int64]

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

    Values are written as in the tables that models are trained from, and read as the service reads raw rows; rows
    without a target are left out. Raises Unusable.
    """
    try:
        table = read_table(path)
        learnt = _learnt(path, list(table.columns), manifest)
        inputs = {each.name: _values(table, each) for each in manifest.inputs}
        targets = [understand(table, name, [] if manifest.task == "regression" else learnt) for name in learnt]
    except UnusableTable as error:
        raise Unusable(error.what) from error
    present = np.flatnonzero(np.all([[label is not None for label in each.labels()] for each in targets], axis=0))
    if len(present) < FEWEST:
        raise Unusable(f"{path} has {len(present)} rows with a target; {FEWEST} or more are needed")
    objects = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    try:
        rows = standard_of(manifest.inputs).read([objects[row] for row in present])
    except InvalidRows as error:
        (field, message), *_ = error.complaints
        row, _, column = field.removeprefix("inputs[").partition("].")
        raise Unusable(f"{path}: column {shown(column)}, row {present[int(row)] + 1} {message}") from None
    known = _numbers if manifest.task == "regression" else _classes
    return HeldOut(rows, known(path, targets, present, manifest), path.name)


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


def _numbers(path: Path, targets: list[Column], present: Places, _: Manifest) -> Float64:
    for target in targets:
        if target.kind != "number":
            raise Unusable(f"{path}: column {shown(target.name)} has values that are no numbers")
    return np.stack([target.numbers[present] for target in targets], axis=1)


def _classes(path: Path, targets: list[Column], present: Places, manifest: Manifest) -> Places:
    places, labels = {label: place for place, label in enumerate(manifest.labels)}, targets[0].labels()
    if unknown := next((row + 1 for row in present if labels[row] not in places), None):
        raise Unusable(f"{path}: row {unknown} has a class that the model does not have")
    return np.array([places[labels[row] or ""] for row in present])
