"""What training says of a version: its test figures beside those of plain methods, and whether its intervals hold."""

from __future__ import annotations

from typing import Any

from rich.table import Table as Lines

from models.manifest import Manifest

LEVEL = 0.9  # of the figures whose names end with _90
# As the playground calls them, in two lines where they are long.
_FIGURES = {
    "rmse": "root mean\nsquared error",
    "mae": "mean absolute\nerror",
    "r2": "R²",
    "accuracy": "accuracy",
    "brier": "Brier\nscore",
    "log_likelihood": "log-\nlikelihood",
}
_METHODS = {
    "ridge": "ridge regression",
    "logistic_regression": "logistic regression",
    "sklearn_mlp": "scikit-learn's MLP",
    "hist_gradient_boosting": "gradient-boosted trees",
    "nearest_neighbours": "nearest neighbours",
}


def comparison(manifest: Manifest) -> Lines:
    """A row for the committee, the full network and each plain method, all on the test rows; a column for a figure."""
    test, plain = manifest.metrics["test"], manifest.metrics["baseline"]
    figures = [figure for figure in _FIGURES if figure in test]
    full = {figure: test[f"{figure}_full_network"] for figure in figures if f"{figure}_full_network" in test}
    methods = {"committee": test, "full network": full, **{_METHODS.get(name, name): plain[name] for name in plain}}
    lines = lines_of(f"{manifest.provenance['rows']['test']:,} test rows", *(_FIGURES[figure] for figure in figures))
    for method, found in methods.items():
        lines.add_row(method, *(f"{found[figure]:.4g}" if figure in found else "" for figure in figures))
    return lines


def coverage(manifest: Manifest) -> list[str]:
    """Which share of the test rows 90 % intervals or sets hold: a sentence for each kind that the service answers."""
    test, held, told = manifest.metrics["test"], manifest.calibration.conformal, list[str]()
    if held is not None and "conformal_coverage_90" in test:
        few = None in held.at(LEVEL)
        share = f"none, {held.rows} validation rows are too few" if few else _percent(test["conformal_coverage_90"])
        told.append(f"90 % conformal intervals (requests for {held.samples} samples, the default): {share}")
    if "coverage_90" in test:
        when = " (requests for other numbers of samples)" if told else ""
        told.append(f"90 % predictive intervals{when}: {_percent(test['coverage_90'])}")
    if "set_coverage_90" in test:
        size = f"{test['set_size_90']:.2f} classes on average"
        told.append(f"90 % prediction sets, of {size}: {_percent(test['set_coverage_90'])}")
    return [f"test rows in {each}" for each in told]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def lines_of(*headers: str, **options: Any) -> Lines:
    """An empty table without rules, indented."""
    return Lines(*headers, box=None, header_style="bold", padding=(0, 1, 0, 2), **options)
