"""Conformal quantiles of a network's errors on rows that it was not fitted to; the computation is crepes'.

Marginal coverage of at least the level holds for rows that are exchangeable with these (Vovk et al. 2005). Used in
training; the service applies what was found, see `calibration`. Knows nothing of networks.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt

from models.calibration import EPSILON, Conformal, Method
from models.features import Float64

LEVELS = (*(percent / 100 for percent in range(1, 100)), 0.995, 0.999)
# crepes truncates (1 − level) × (rows + 1), which rounding may have taken just below a whole number.
_NUDGE = 1e-9


def regression_scores(targets: Float64, mean: Float64, std: Float64, scale: Float64) -> Float64:
    """|y − mean| / (std + ε): [rows, outputs], as are targets, mean and std; `scale` [outputs] is the targets'."""
    return np.asarray(np.abs(targets - mean) / (std + EPSILON * scale))


def class_scores(targets: npt.NDArray[np.int64], probabilities: Float64) -> Float64:
    """1 − the probability of the true class (LAC, Sadinle et al. 2019): [rows, 1]; probabilities [rows, classes]."""
    return 1.0 - probabilities[np.arange(len(targets)), targets][:, None]


def conformal(scores: Float64, dropout: tuple[float, ...], samples: int, method: Method = "dropout") -> Conformal:
    """Quantiles of scores [rows, lists] of committees of so many samples, each site's p as in `dropout`."""
    return Conformal(
        method=method,
        samples=samples,
        dropout=dropout,
        rows=len(scores),
        levels=LEVELS,
        quantiles=tuple(map(_quantiles, scores.T)),
    )


def covered(scores: Float64, held: Conformal, level: float) -> npt.NDArray[np.bool_]:
    """Whether scores [rows, lists] are within the quantiles at a level: so is the target in its interval or set."""
    return scores <= np.array([math.inf if quantile is None else quantile for quantile in held.at(level)])


def sets_of(probabilities: Float64, held: Conformal, level: float) -> npt.NDArray[np.bool_]:
    """Which classes are in the prediction sets of probabilities [rows, classes]; the likeliest class always is."""
    within = covered((1.0 - probabilities).reshape(-1, 1), held, level).reshape(probabilities.shape)
    within[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return within


def _quantiles(scores: Float64) -> tuple[float | None, ...]:
    """The quantile at each of the levels; None where it would take more rows."""
    # Imported when it is needed: it brings pandas along.
    from crepes import ConformalRegressor

    regressor = ConformalRegressor().fit(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # too few rows for a level: the width is infinite, and said so
        # The half-width of an interval about 0, in units of the scores, is their quantile.
        widths = [float(regressor.predict_int(np.zeros(1), confidence=level - _NUDGE)[0, 1]) for level in LEVELS]
    return tuple(width if math.isfinite(width) else None for width in widths)
