"""Sums over samples, which lie along the last axis.

NumPy reduces a contiguous last axis by itself, whatever the other axes are, so a row's sums have the same bits alone
and in company. Knows nothing of what is summed.
"""

from __future__ import annotations

import numpy as np

from models.features import Float64


def mean_over_samples(values: Float64) -> Float64:
    """The mean over the last axis."""
    return np.asarray(np.add.reduce(values, axis=-1) / values.shape[-1])


def moments(values: Float64) -> tuple[Float64, Float64 | None]:
    """Mean over samples, and two-pass variance divided by n − 1; None for a single sample.

    Both are taken of differences from the first sample, so that equal samples have a variance of exactly 0.
    """
    first, n = values[..., :1], values.shape[-1]
    deviations = values - first
    shift = mean_over_samples(deviations)[..., None]
    mean = (first + shift)[..., 0]
    if n == 1:
        return mean, None
    deviations -= shift
    deviations *= deviations
    return mean, np.add.reduce(deviations, axis=-1) / (n - 1)
