"""The section on UCI regression in RESULTS.md, from raw results. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.report import table
from benchmarks.timing import machine
from benchmarks.uci import procedure


class Published(NamedTuple):
    """A published figure and its standard error, None where none was printed."""

    value: float
    error: float | None = None


Column = Mapping[str, Published]
# Hernández-Lobato & Adams 2015; Gal & Ghahramani 2016; Mukhoti et al. 2018; Lakshminarayanan et al. 2017; Wu et al.
# 2019.
_SETS = ("bostonHousing", "concrete", "energy", "kin8nm", "protein-tertiary-structure", "yacht")


def _column(*figures: tuple[float, float | None]) -> Column:
    return {name: Published(*figure) for name, figure in zip(_SETS, figures, strict=True)}


LOG_LIKELIHOODS: Mapping[str, Column] = {
    "PBP": _column((-2.57, 0.09), (-3.16, 0.02), (-2.04, 0.02), (0.90, 0.01), (-2.97, 0.00), (-1.63, 0.02)),
    "MC dropout 2016": _column((-2.46, 0.06), (-3.04, 0.02), (-1.99, 0.02), (0.95, 0.01), (-2.89, 0.00), (-1.55, 0.03)),
    "MC dropout 2018": _column(
        (-2.402, 0.042), (-2.937, 0.025), (-1.212, 0.005), (1.136, 0.007), (-2.871, 0.001), (-1.250, 0.015)
    ),
    "deep ensembles": _column((-2.41, 0.06), (-3.06, 0.04), (-1.38, 0.05), (1.20, 0.00), (-2.83, 0.01), (-1.18, 0.05)),
    "DVI": _column((-2.41, 0.02), (-3.06, 0.01), (-1.01, 0.06), (1.13, 0.00), (-2.85, 0.01), (-0.47, 0.03)),
}
ERRORS: Mapping[str, Column] = {
    "PBP": _column((3.01, 0.18), (5.67, 0.09), (1.80, 0.05), (0.10, None), (4.73, 0.01), (1.02, 0.05)),
    "MC dropout 2016": _column((2.97, 0.19), (5.23, 0.12), (1.66, 0.04), (0.10, None), (4.36, 0.01), (1.11, 0.09)),
    "MC dropout 2018": _column(
        (2.904, 0.177), (4.826, 0.161), (0.539, 0.014), (0.0789, 0.0006), (4.274, 0.021), (0.666, 0.049)
    ),
    "deep ensembles": _column((3.28, 0.22), (6.03, 0.13), (2.09, 0.06), (0.09, None), (4.71, 0.03), (1.58, 0.11)),
}

_CANDIDATES = len(procedure.ACTIVATIONS) * len(procedure.PROBABILITIES) * len(procedure.DECAYS)
_ABOUT = f"""\
The published protocol: inputs and target standardised with the training rows; everything chosen on the training rows of
each split by one procedure, with nothing set by hand or carried from one split to another; a model of its own for each
split, published, served, and asked over HTTP for {procedure.SAMPLES} samples. Figures are in the target's units, means
over splits ± standard errors. The log-likelihood is that of the mixture of the {procedure.SAMPLES} thinned networks'
normals, each asked for by itself; the root mean square error is that of the answer's mean."""
_BUDGET = f"""\
Budget of each split: {_CANDIDATES} candidates ({" or ".join(procedure.ACTIVATIONS)}; p
{", ".join(map(str, procedure.PROBABILITIES))}; weight decay {", ".join(map(str, procedure.DECAYS))}) for at most
{procedure.STEPS:,} steps; the better half goes on, twice. Then {procedure.MEMBERS} networks of two hidden layers and a
variance head learn from all training rows, and {procedure.FOLDS} times as many from four fifths, to calibrate with."""
_ABOUT_TABLE = """\
Published figures are marked ✓ where ours is at least as good, ≈ where it is worse by at most one standard error (of the
difference), ✗ where it is worse by more."""
_ABOUT_COVERAGE = """\
Shares of test rows within the 90 % interval: the answer's own, which is conformal, and the plain predictive one,
between the mixture's quantiles. ± is what chance allows: two binomial standard errors over all of these rows,
as if they were independent. Calibration looks at networks that learnt from four fifths of the rows, and do a little
worse than the one that answers: where rows are few, intervals hold more than they promise."""
_TWO = 2.0


def section(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole section, Markdown."""
    sets = sorted(results)
    hours = sum(results[name]["seconds"] for name in sets) / 3600
    how = "two at a time, on a machine with other work to do"
    count = sum(results[name]["splits"] for name in sets)
    parts = [
        "## UCI regression",
        f"{machine()}. {count} splits took {hours:.1f} hours, {how}.",
        _ABOUT,
        _BUDGET,
        _ABOUT_TABLE,
        "### Log-likelihood of a test row (higher is better)",
        _beside(results, "ll", LOG_LIKELIHOODS, better=1.0),
        "### Root mean square error (lower is better)",
        _beside(results, "rmse", ERRORS, better=-1.0),
        "### Coverage",
        _ABOUT_COVERAGE,
        table(
            ("set", "splits", "test rows", "answer's interval", "±", "plain predictive", "minutes"),
            [_coverage(name, results[name]) for name in sets],
        ),
    ]
    return "\n\n".join(parts)


def _beside(results: Mapping[str, Mapping[str, Any]], name: str, columns: Mapping[str, Column], better: float) -> str:
    rows = []
    for which in sorted(results):
        ours = Published(results[which][name], results[which][f"{name}_se"])
        cells = [_compared(ours, column.get(which), better) for column in columns.values()]
        rows.append([which, str(results[which]["splits"]), _figure(ours), *cells])
    return table(("set", "splits", "this service", *columns), rows)


def _compared(ours: Published, theirs: Published | None, better: float) -> str:
    if theirs is None:
        return "–"
    ahead = better * (ours.value - theirs.value)
    allowed = math.hypot(ours.error or 0.0, theirs.error or 0.0)
    mark = "✓" if ahead >= 0 else "≈" if -ahead <= allowed else "✗"
    return f"{_figure(theirs)} {mark}"


def _figure(number: Published) -> str:
    digits = 4 if abs(number.value) < 0.2 else 3
    text = f"{number.value:.{digits}f}".replace("-", "−")
    return text if number.error is None else f"{text} ± {number.error:.{digits}f}"


def _coverage(name: str, result: Mapping[str, Any]) -> list[str]:
    rows = sum(one["rows"] for one in result["each"])
    chance = _TWO * math.sqrt(0.9 * 0.1 / rows)
    shares = [f"{result['coverage90']:.3f}", f"{chance:.3f}", f"{result['predictive90']:.3f}"]
    return [name, str(result["splits"]), f"{rows:,}", *shares, f"{result['seconds'] / 60:.1f}"]
