"""Rows as they are written on a command line → rows for a model, and what is unusual about them.

Knows nothing of requests.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence

from penumbra.inputs import UNKNOWN, Inputs
from penumbra.rows import Rows, Table
from penumbra.schemas import ModelDescription

# So many widths of the range seen in training a number may be outside it, before it is told.
_MARGIN = 0.5
_MOST_NAMES = 3


def read(words: Sequence[str], known: ModelDescription) -> Rows:
    """The rows that words are, each VALUE,VALUE,… or NAME=VALUE,…; nothing is a missing value. Raises ValueError."""
    inputs = Inputs(known.inputs)
    cells = [_cells(number, word, known.name, inputs) for number, word in enumerate(words, 1)]
    rows, complaints = inputs.coded(Table(None, list(zip(*cells, strict=True)), written=True))
    if complaints := complaints or inputs.about_gaps(rows):
        raise ValueError("; ".join(f"row {row + 1}: {name} {message}" for row, name, message in complaints))
    return rows


def _cells(number: int, word: str, model: str, inputs: Inputs) -> list[str]:
    """What is written for each input, in the model's order."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([word.strip()], skipinitialspace=True), [])]
    except csv.Error as error:
        raise ValueError(f"row {number} can't be read: {error}") from None
    pairs = [cell.partition("=") for cell in cells if cell]
    if pairs and all(sign for _, sign, _ in pairs):
        values = {name.strip(): value.strip() for name, _, value in pairs}
        if wrong := inputs.about_names([name.strip() for name, _, _ in pairs]):
            raise ValueError(f"row {number} {wrong}")
        return [values[name] for name in inputs.names]
    if any(sign for _, sign, _ in pairs):
        raise ValueError(f"row {number} has both values and NAME=VALUE pairs: use one form")
    count = len(inputs.names)
    if len(cells) == count + 1 and not cells[-1]:  # it ends with a comma
        cells.pop()
    if len(cells) != count:
        has = f"{len(cells)} value{'' if len(cells) == 1 else 's'}"
        raise ValueError(f"row {number} has {has}; {model} takes {count} (penumbra model {model} lists them)")
    return cells


def unusual(rows: Rows, known: ModelDescription) -> str:
    """One sentence about values that are unlike any seen in training; nothing where there are none."""
    told = [(number, said) for number in range(rows.count) if (said := _unusual(rows.part(number, number + 1), known))]
    if not told:
        return ""
    (number, said), *others = told
    more = f" (and {len(others)} more row{'' if len(others) == 1 else 's'})" if others else ""
    return f"row {number + 1}: {said}{more}"


def _unusual(row: Rows, known: ModelDescription) -> str:
    outside, unknown = [], []
    for column, value in zip(known.inputs, row.flat, strict=True):
        low, high = column.get("range") or (value, value)
        margin = _MARGIN * (high - low)
        if value < low - margin or value > high + margin:
            outside.append(column["name"])
        if column.get("kind") == "category" and value == UNKNOWN:
            unknown.append(column["name"])
    said = []
    if outside:
        which = ", ".join(outside) if len(outside) <= _MOST_NAMES else f"{len(outside)} inputs"
        said.append(f"{which} {'lies' if len(outside) == 1 else 'lie'} far outside the range seen in training")
    if unknown:
        said.append(f"{', '.join(unknown)} {'has' if len(unknown) == 1 else 'have'} no category seen in training")
    return "; ".join(said)
