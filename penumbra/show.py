"""Answers as text for people: columns that line up, ± and bars. Knows nothing of requests or terminals.

Where the output can't hold blocks and Greek, plain characters take their place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from penumbra import arrays
from penumbra.answers import (
    ClassPrediction,
    ClassSample,
    Prediction,
    RegressionPrediction,
    RegressionSample,
    Sample,
)
from penumbra.schemas import JobDescription, ModelDescription, ModelEntry

_BAR = 20
_MOST_CLASSES = 3
_MOST_CATEGORIES = 8
_PLAIN = str.maketrans({"█": "#", "░": ".", "─": "-", "●": "o", "├": "[", "┤": "]", "±": "+-", "·": "|", "…": ".."})


def plain(text: str) -> str:
    """The same text in ASCII."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


def models(entries: Sequence[ModelEntry]) -> str:
    """The list of models."""
    rows = [["model", "version", "task", "digest", ""]]
    for entry in entries:
        digest = (entry.digest or "").removeprefix("sha256:")[:8]
        rows.append([entry.name, entry.version or "-", entry.task or "-", digest, "" if entry.ready else "not ready"])
    return _aligned(rows)


def model(known: ModelDescription) -> str:
    """What a model expects: its inputs with the values seen in training, and its outputs."""
    head = f"{known.name} {known.version} · {known.task} · {_samples(known.default_samples)} by default"
    rows = [["input", "seen in training", "units"]]
    rows += [[column["name"], _seen(column), column.get("units") or ""] for column in known.inputs]
    word = "classes" if known.task == "classification" else "outputs"
    return f"{head}\n\n{_aligned(rows)}\n\n{word}: {', '.join(known.output_names)}"


def jobs(told: Sequence[JobDescription]) -> str:
    """Jobs, a line for each."""
    rows = [["job", "state", "model", "rows", "of", "handed in"]]
    for each in told:
        name = f"{each.model.name} {each.model.version}"
        rows.append([each.id, each.state, name, f"{each.rows.done:,}", f"{each.rows.of:,}", each.created[:16]])
    return _aligned(rows)


def job(told: JobDescription) -> str:
    """How far a job is, why it failed, and what it asks."""
    options = ", ".join(f"{name} {value}" for name, value in (told.options or {}).items())
    asked = f"{told.verb} · {options}" if options else told.verb
    why = f"\n\n{told.error}" if told.error else ""
    return f"{jobs([told])}\n\n{asked}{why}"


def prediction(answer: Prediction, names: Sequence[str]) -> str:
    """What the full network says, a line for each row and output."""
    head = f"{answer.model.name} {answer.model.version} · the full network"
    if isinstance(answer, ClassPrediction):
        return f"{head}\n\n{_aligned(_classes(answer, names))}"
    return f"{head}\n\n{_aligned(_predicted(answer, names))}"


def sample(answer: Sample, names: Sequence[str]) -> str:
    """What a committee says and how far to trust it, a line for each row and output."""
    committee = (
        f"{answer.method}, approximate" if answer.seed is None else f"seed {answer.seed} · {_samples(answer.samples)}"
    )
    head = f"{answer.model.name} {answer.model.version} · {committee}"
    if answer.first_sample:
        head += f" from {answer.first_sample}"
    if isinstance(answer, ClassSample):
        told = f"{head}\n\n{_aligned(_voted(answer, names))}\n\nentropies in nats; disagreement: mutual information"
        without = answer.calibrated and answer.prediction_set is None
        return f"{told}; no prediction sets: the calibration is for other settings" if without else told
    return (
        f"{head} · {answer.interval.level:.0%} {answer.interval.kind} interval\n\n{_aligned(_sampled(answer, names))}"
    )


def _seen(column: Mapping[str, Any]) -> str:
    """What an input was in training, and whether it may be missing."""
    match column.get("kind"):
        case "category":
            categories = [repr(name) for name in column["categories"]]
            more = f" and {len(categories) - _MOST_CATEGORIES} more" if len(categories) > _MOST_CATEGORIES else ""
            return f"{', '.join(categories[:_MOST_CATEGORIES])}{more}; others and missing ones are unknown"
        case "boolean":
            told = "true or false"
        case _:
            told = " … ".join(map(_number, column.get("range") or ())) or "not known"
    return f"{told}, may be missing" if column.get("missing") else told


def _samples(count: int) -> str:
    return f"{count:,} sample{'' if count == 1 else 's'}"


def _predicted(answer: RegressionPrediction, names: Sequence[str]) -> list[list[str]]:
    rows = [["row", "output", "mean", "aleatoric"]]
    for row, output, mean in _cells(answer.mean):
        std = _at(answer.aleatoric_std, row, output)
        rows.append([str(row + 1), names[output], _number(mean), "" if std is None else f"± {_number(std)}"])
    return rows


def _sampled(answer: RegressionSample, names: Sequence[str]) -> list[list[str]]:
    quantiles = answer.quantiles or {}
    rows = [["row", "output", "mean", "", "from", "to", "", "epistemic", "aleatoric", *(f"q{p:g}" for p in quantiles)]]
    lower, upper = answer.interval.lower, answer.interval.upper
    for output, name in enumerate(names):
        ends = [_at(bound, row, output) for bound in (lower, upper) for row in range(len(answer.mean))]
        seen = [end for end in ends if end is not None]
        low, high = (min(seen), max(seen)) if seen else (0.0, 0.0)
        for row, values in enumerate(arrays.nested(answer.mean)):
            mean, std = values[output], _at(answer.std, row, output)
            start, end = _at(lower, row, output), _at(upper, row, output)
            rows.append(
                [
                    str(row + 1),
                    name,
                    _number(mean),
                    "" if std is None else f"± {_number(std)}",
                    _number(start),
                    _number(end),
                    "" if start is None or end is None else _interval(start, mean, end, low, high),
                    _number(_at(answer.epistemic_std, row, output)),
                    _number(_at(answer.aleatoric_std, row, output)),
                    *(_number(_at(quantile, row, output)) for quantile in quantiles.values()),
                ]
            )
    return rows


def _classes(answer: ClassPrediction, names: Sequence[str]) -> list[list[str]]:
    rows = [["row", "class", "probability", ""]]
    for row, probabilities in enumerate(arrays.nested(answer.probabilities)):
        for place, chosen in enumerate(_likely(probabilities)):
            share = probabilities[chosen]
            rows.append([str(row + 1) if not place else "", names[chosen], f"{share:.3f}", _bar(share)])
    return rows


def _voted(answer: ClassSample, names: Sequence[str]) -> list[list[str]]:
    rows = [["row", "class", "probability", "", "", "votes", "entropy", "disagreement"]]
    sets = answer.prediction_set
    if sets is not None:
        rows[0].append("prediction set")
    for row, probabilities in enumerate(arrays.nested(answer.probabilities)):
        for place, chosen in enumerate(_likely(probabilities)):
            share, std = probabilities[chosen], _at(answer.std, row, chosen)
            told = [_number(answer.predictive_entropy[row]), _number(answer.mutual_information[row])]
            rows.append(
                [
                    "" if place else str(row + 1),
                    names[chosen],
                    f"{share:.3f}",
                    "" if std is None else f"± {std:.3f}",
                    _bar(share),
                    "" if answer.votes is None else f"{int(answer.votes[row][chosen]):,} of {answer.samples:,}",
                    *(["", ""] if place else told),
                    *([] if sets is None else [""] if place else [", ".join(sets[row])]),
                ]
            )
    return rows


def _likely(probabilities: Sequence[float]) -> list[int]:
    """The likeliest classes, the likeliest first; those that round to nothing are left out."""
    order = sorted(range(len(probabilities)), key=lambda place: -probabilities[place])[:_MOST_CLASSES]
    return order[:1] + [place for place in order[1:] if probabilities[place] >= 0.0005]


def _cells(matrix: Any) -> list[tuple[int, int, float]]:
    return [
        (row, column, value) for row, values in enumerate(arrays.nested(matrix)) for column, value in enumerate(values)
    ]


def _at(matrix: Any, row: int, column: int) -> float | None:
    """One number of [rows, columns]; None where it is undefined."""
    if matrix is None:
        return None
    value = float(matrix[row][column])
    return None if math.isnan(value) else value


def _number(value: Any) -> str:
    """Four digits, which is more than most samplings know, and never a power of ten for what can be read."""
    if value is None:
        return ""
    return f"{value:,.0f}" if 999.95 <= abs(value) < 1e15 else f"{value:.4g}"


def _bar(share: float) -> str:
    filled = round(share * _BAR)
    return "█" * filled + "░" * (_BAR - filled)


def _interval(start: float, mean: float, end: float, low: float, high: float) -> str:
    """An interval on a scale that all rows of an output share, its mean marked."""
    step = (high - low) / (_BAR - 1)

    def place(value: float) -> int:
        return min(_BAR - 1, max(0, round((value - low) / step))) if step else 0

    cells = [" "] * _BAR
    cells[place(start) : place(end) + 1] = "─" * (place(end) - place(start) + 1)
    cells[place(start)], cells[place(end)] = "├", "┤"
    cells[place(mean)] = "●"
    return "".join(cells)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [all(_is_numeric(cell) for cell in column) for column in zip(*rows[1:], strict=True)] or [False] * len(
        widths
    )
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _is_numeric(cell: str) -> bool:
    return not cell.strip("0123456789.,-+e ")
