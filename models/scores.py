"""Scores of forecasts that are probabilities: calibration of classes, CRPS of mixtures. Knows nothing of networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from models.features import Float64

BINS = 15


class Reliability(NamedTuple):
    """Bins of equal width, by confidence: mean confidence, share that was right, rows; NaN where there are none."""

    confidence: Float64
    accuracy: Float64
    rows: npt.NDArray[np.int64]


def reliability(targets: npt.NDArray[np.int64], probabilities: Float64, bins: int = BINS) -> Reliability:
    """How often the likeliest class [rows] is right, by how likely it was said to be, from [rows, classes]."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    # A confidence on an edge belongs to the bin below it.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(place, confidence, bins) / rows, np.bincount(place, right.astype(float), bins) / rows, rows
        )


def expected_calibration_error(targets: npt.NDArray[np.int64], probabilities: Float64, bins: int = BINS) -> float:
    """The gap between confidence and accuracy, averaged over rows (Naeini et al. 2015; Guo et al. 2017)."""
    found = reliability(targets, probabilities, bins)
    gaps = np.abs(found.confidence - found.accuracy)
    return float(np.nansum(gaps * found.rows) / found.rows.sum())


def mixture_crps(targets: Float64, means: Float64, variances: Float64) -> Float64:
    """The continuous ranked probability score of targets [rows] under mixtures of n normals [n, rows]; less is better.

    In the units of the targets. In closed form (Grimit, Gneiting, Berrocal & Johnson 2006): with
    A(μ, σ) = 2σ φ(μ/σ) + μ (2Φ(μ/σ) − 1), mean_i A(y − μ_i, σ_i) − ½ mean_ij A(μ_i − μ_j, √(σ_i² + σ_j²)).
    """
    n = len(means)
    deviations = np.sqrt(variances)
    near = _a(targets - means, deviations).mean(axis=0)
    apart = sum(_a(means[i] - means, np.sqrt(variances[i] + variances)).sum(axis=0) for i in range(n))
    return np.asarray(near - 0.5 * apart / n**2)


def _a(mean: Float64, deviation: Float64) -> Float64:
    z = mean / deviation
    return np.asarray(2.0 * deviation * norm.pdf(z) + mean * (2.0 * norm.cdf(z) - 1.0))
