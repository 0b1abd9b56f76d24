"""Scores of what was told, in the target's units, and their summaries over splits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from benchmarks.uci.asking import Told
from models.evaluation import mixture_log_likelihood
from models.features import Float64


class Scores(BaseModel):
    """One split's: root mean square error, mean log-likelihood of a row, shares of rows within intervals.

    `coverage90` is that of the answer's interval, whose kind is `kind`, `predictive90` that of the quantiles at its
    edges; `width90` and `predictive_width90` are their mean widths. `chosen` is what the search decided, `seconds` what
    all of it took.
    """

    split: int
    rows: int
    rmse: float
    ll: float
    kind: str
    coverage90: float
    width90: float
    predictive90: float
    predictive_width90: float
    chosen: dict[str, float | str]
    seconds: float


def score(targets: Float64, told: Told, split: int, chosen: dict[str, float | str], seconds: float) -> Scores:
    """How good it was: targets [rows, 1]."""
    return Scores(
        split=split,
        rows=len(targets),
        rmse=float(np.sqrt(np.mean((targets - told.mean) ** 2))),
        ll=float(mixture_log_likelihood(targets, told.means, told.stds**2).mean()),
        kind=told.kind,
        coverage90=_share(targets, told.interval),
        width90=_width(told.interval),
        predictive90=_share(targets, told.quantiles),
        predictive_width90=_width(told.quantiles),
        chosen=chosen,
        seconds=seconds,
    )


def summary(each: Sequence[Scores]) -> dict[str, Any]:
    """What the result file says of a set; standard errors are population deviations over splits / √splits."""
    rmse, ll = (np.array([getattr(one, name) for one in each]) for name in ("rmse", "ll"))
    return {
        "rmse": float(rmse.mean()),
        "rmse_se": float(rmse.std() / math.sqrt(len(each))),
        "ll": float(ll.mean()),
        "ll_se": float(ll.std() / math.sqrt(len(each))),
        "coverage90": pooled(each, "coverage90"),
        "predictive90": pooled(each, "predictive90"),
        "splits": len(each),
        "seconds": sum(one.seconds for one in each),
        "each": [one.model_dump() for one in each],
    }


def pooled(each: Sequence[Scores], name: str) -> float:
    """The share over the rows of all splits."""
    return float(sum(getattr(one, name) * one.rows for one in each) / sum(one.rows for one in each))


def _share(targets: Float64, bounds: tuple[Float64, Float64]) -> float:
    return float(((bounds[0] <= targets) & (targets <= bounds[1])).mean())


def _width(bounds: tuple[Float64, Float64]) -> float:
    return float(np.nan_to_num((bounds[1] - bounds[0]).mean(), posinf=np.finfo(np.float64).max))
