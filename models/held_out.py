"""Rows to calibrate a version with: those that a recipe kept for validation, or a file of CSV.

Knows nothing of networks.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.data import Dataset, Split
from models.features import Float64, InvalidRows, read_rows
from models.manifest import Manifest

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
    """The rows of a CSV file: a header with the names of the inputs, and of the outputs or, for classes, one more name.

    Raises Unusable.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Unusable(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError:
        raise Unusable(f"{path} is empty") from None
    inputs = [feature.name for feature in manifest.inputs]
    learnt = _learnt(path, header, inputs, manifest)
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise Unusable(f"{path}: row {number} has {len(line)} values, and the header {len(header)}")
    if len(lines) < FEWEST:
        raise Unusable(f"{path} has {len(lines)} rows; {FEWEST} or more are needed")
    columns = dict(zip(header, zip(*lines, strict=True), strict=True))
    rows = _numbers(path, [columns[name] for name in inputs], inputs)
    if manifest.task == "regression":
        return HeldOut(rows, _numbers(path, [columns[name] for name in learnt], learnt), path.name)
    places = {label: place for place, label in enumerate(manifest.labels)}
    if unknown := next((number for number, value in enumerate(columns[learnt[0]], 2) if value not in places), None):
        raise Unusable(f"{path}: row {unknown} has a class that the model does not have")
    return HeldOut(rows, np.array([places[value] for value in columns[learnt[0]]]), path.name)


def _learnt(path: Path, header: list[str], inputs: list[str], manifest: Manifest) -> list[str]:
    """The names of the columns that hold what was learnt."""
    if len(set(header)) != len(header):
        raise Unusable(f"{path}: two columns have the same name")
    outputs = list(manifest.labels) if manifest.task == "regression" else []
    if missing := [name for name in (*inputs, *outputs) if name not in header]:
        raise Unusable(f"{path} has no column {missing[0]!r}")
    others = [name for name in header if name not in inputs]
    if manifest.task == "classification" and len(others) != 1:
        raise Unusable(f"{path} must have one column besides the inputs, for the classes; it has {len(others)}")
    return outputs or others


def _numbers(path: Path, columns: list[tuple[str, ...]], names: list[str]) -> Float64:
    try:
        rows = [[float(value) for value in row] for row in zip(*columns, strict=True)]
        return read_rows(rows, names)
    except InvalidRows as error:
        (field, message), *_ = error.complaints
        raise Unusable(f"{path}: {field.removeprefix('inputs')} {message}") from None
    except ValueError as error:
        raise Unusable(f"{path}: {error}") from None
