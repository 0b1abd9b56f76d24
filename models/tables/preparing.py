"""A table and what is to be learnt from it → a data set whose columns the training procedure understands.

Decides the task, which rows and columns are used, and which categories are kept, and says what it decided. Knows
nothing of networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.data import Dataset, Kind, split
from models.features import UNKNOWN, Float64
from models.tables.columns import Column, check_category, understand
from models.tables.errors import UnusableTable, listed, shown
from models.tables.reading import Table

LEAST_ROWS = 40  # of which eight are held out to measure with
LEAST_OF_A_CLASS = 5
LEAST_OF_A_CATEGORY = 3  # training rows: below that there is nothing to be learnt of it
MOST_CLASSES = 1000

TaskChoice = Literal["auto", "regression", "classification"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a table: what to learn, from which columns, read in which way."""

    targets: Sequence[str]
    task: TaskChoice = "auto"
    drop: Collection[str] = ()
    categories: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data set, and one sentence for each thing that was decided on the way."""

    dataset: Dataset
    notes: tuple[str, ...]


def prepare(table: Table, wanted: Wanted, seed: int, validation_fraction: float, test_fraction: float) -> Prepared:
    """The data set of a table. Raises UnusableTable.

    Which rows are trained on is decided by the seed and the fractions, as `split` does: categories are kept by what the
    training rows have of them.
    """
    _check_names(table, wanted)
    notes: list[str] = []
    targets = [_target(table, name, wanted) for name in wanted.targets]
    present = np.all([[label is not None for label in target.labels()] for target in targets], axis=0)
    if absent := int((~present).sum()):
        notes.append(f"{absent} of {table.rows} rows have no {listed([shown(n) for n in wanted.targets])}: left out")
    rows = np.flatnonzero(present)
    if len(rows) < LEAST_ROWS:
        raise UnusableTable(
            f"{len(rows)} row{'' if len(rows) == 1 else 's'} with a target; at least {LEAST_ROWS} are needed, "
            "to learn from some and to check with others"
        )
    train = split(len(rows), seed, validation_fraction, test_fraction).train
    names, kinds, columns = [], list[Kind](), []
    for name in table.columns:
        if name in wanted.targets or name in wanted.drop:
            continue
        column = understand(table, name, wanted.categories)
        kind, numbers = _input(column, rows, train, notes)
        if kind is not None:
            names.append(name)
            kinds.append(kind)
            columns.append(numbers)
    if not columns:
        raise UnusableTable("no column is left to learn from")
    labels, values = _learnt(targets, rows, wanted.task, notes)
    return Prepared(
        Dataset(
            source=table.source,
            inputs=np.stack(columns, axis=1),
            targets=values,
            input_names=names,
            output_names=labels,
            kinds=kinds,
        ),
        tuple(notes),
    )


def _check_names(table: Table, wanted: Wanted) -> None:
    if not wanted.targets:
        raise UnusableTable(f"which column is to be learnt? --target NAME; there are: {listed(list(table.columns))}")
    asked = {"--target": wanted.targets, "--drop": wanted.drop, "--category": wanted.categories}
    for option, names in asked.items():
        for name in names:
            if name not in table.columns:
                hint = " (the file may have another separator)" if len(table.columns) == 1 else ""
                raise UnusableTable(
                    f"{option}: there is no column {shown(name)}; there are: {listed(list(table.columns))}{hint}"
                )
    if len(set(wanted.targets)) < len(wanted.targets):
        raise UnusableTable("--target: a column is named twice")
    if both := sorted({*wanted.targets} & {*wanted.drop}):
        raise UnusableTable(f"{shown(both[0])} can't be both learnt and left out")


def _target(table: Table, name: str, wanted: Wanted) -> Column:
    column = understand(table, name, wanted.categories)
    if column.missing == table.rows:
        raise UnusableTable(f"the target {shown(name)} is missing in every row")
    if len(column.distinct) == 1 and table.rows >= LEAST_ROWS:
        value = shown(column.distinct[0])
        raise UnusableTable(f"the target {shown(name)} is {value} in every row: there is nothing to learn")
    return column


def _learnt(
    targets: list[Column], rows: npt.NDArray[np.int64], task: TaskChoice, notes: list[str]
) -> tuple[list[str], npt.NDArray[np.float64] | npt.NDArray[np.int64]]:
    """Names of the outputs, and what is to be learnt for each of these rows."""
    numeric = all(target.kind == "number" for target in targets)
    if task == "auto":
        two_values = numeric and len(targets) == 1 and len(targets[0].distinct) == 2
        task = "regression" if numeric and not two_values else "classification"
        notes.append(f"task: {task} (--task says otherwise)")
    if task == "regression":
        for target in targets:
            if target.kind != "number":
                raise UnusableTable(
                    f"the target {shown(target.name)} is not a number, as a regression needs; it has "
                    f"{listed([shown(each) for each in target.distinct], 3)}"
                )
        return [target.name for target in targets], np.stack([target.numbers[rows] for target in targets], axis=1)
    if len(targets) > 1:
        raise UnusableTable("several targets must all be numbers; train one model for each class column")
    return _classes(targets[0], rows)


def _classes(target: Column, rows: npt.NDArray[np.int64]) -> tuple[list[str], npt.NDArray[np.int64]]:
    labels = target.labels()
    counts = Counter(label for label in (labels[row] for row in rows) if label is not None)
    if len(counts) > MOST_CLASSES:
        raise UnusableTable(
            f"the target {shown(target.name)} has {len(counts):,} different values, more than {MOST_CLASSES:,} classes"
        )
    rare = [label for label, count in sorted(counts.items()) if count < LEAST_OF_A_CLASS]
    if rare:
        raise UnusableTable(
            f"the target {shown(target.name)} has fewer than {LEAST_OF_A_CLASS} rows of "
            f"{listed([shown(label) for label in rare], 5)}: join or remove such classes, or is it --task regression?"
        )
    places = {label: place for place, label in enumerate(sorted(counts))}
    return list(places), np.array([places[labels[row] or ""] for row in rows], np.int64)


def _input(
    column: Column, rows: npt.NDArray[np.int64], train: npt.NDArray[np.int64], notes: list[str]
) -> tuple[Kind | None, Float64]:
    """What an input column is, and its numbers for these rows; None where there is nothing to learn from it."""
    name = shown(column.name)
    if column.kind != "category":
        numbers = column.numbers[rows]
        seen = numbers[train]
        if not len(np.unique(seen[~np.isnan(seen)])) or (
            len(np.unique(seen[~np.isnan(seen)])) == 1 and not np.isnan(seen).any()
        ):
            notes.append(f"column {name} has a single value or none: left out")
            return None, numbers
        if np.array_equal(np.diff(column.numbers), np.ones(len(column.numbers) - 1)):
            notes.append(f"column {name} counts the rows; if it means nothing else, leave it out: --drop {name}")
        return ("boolean" if column.kind == "boolean" else "number"), numbers
    check_category(column, len(rows))
    texts = [column.texts[row] for row in rows]
    counts = Counter(text for text in (texts[row] for row in train) if text is not None)
    kept = tuple(sorted(text for text, count in counts.items() if count >= LEAST_OF_A_CATEGORY))
    if not kept or (len(kept) == 1 and counts[kept[0]] == len(train)):
        notes.append(f"column {name} has a single value or none: left out")
        return None, np.empty(0)
    if rare := len(column.distinct) - len(kept):
        notes.append(f"column {name}: {rare} of {len(column.distinct)} categories are too rare to learn: unknown")
    codes = {text: float(place) for place, text in enumerate(kept)}
    return kept, np.array([codes.get(text, UNKNOWN) if text is not None else UNKNOWN for text in texts])
