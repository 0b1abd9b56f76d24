"""Quantiles of mixtures of normals: what a committee with known noise says of the next observation.

Each is searched for by itself, so it has the same bits alone and in company. Knows nothing of committees or networks.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch

from models.features import Float64
from service.engine.kernel import binaries
from service.engine.reductions import centred

# The smallest standard deviation that a variance can express.
_SMALLEST_SIGMA = 1e-150


def mixture_quantiles(means: Float64, variances: Float64, probabilities: tuple[float, ...]) -> Float64:
    """Quantiles of equal-weight mixtures of normals: [probabilities, rows, outputs].

    means [rows, outputs, n]; variances likewise, or with one sample.
    """
    return tail_quantiles(*centred(means), variances, tuple(map(as_tail, probabilities)))


def as_tail(probability: float) -> tuple[float, float]:
    """A quantile as a tail probability and its side.

    Upper quantiles are lower ones of the mirrored mixture: near 1 a probability has few digits left, 1 − p has all.
    """
    return (probability, 1.0) if probability <= 0.5 else (1.0 - probability, -1.0)


def tail_quantiles(
    mean: Float64, deviations: Float64, variances: Float64, tails: tuple[tuple[float, float], ...]
) -> Float64:
    """For each (tail probability ≤ ½, side): where the mixture has that much below (side 1) or above (−1).

    mean [rows, outputs]; deviations of the components' means from it [rows, outputs, n]; variances likewise, or with
    one sample. [tails, rows, outputs], to about 1e-12 of the narrowest component's standard deviation.
    """
    away = np.ascontiguousarray(deviations.reshape(-1, deviations.shape[-1]))
    sigma = np.maximum(np.sqrt(variances).reshape(-1, variances.shape[-1]), _SMALLEST_SIGMA)
    find = by_bisection if binaries.load() is None else by_kernel
    return find(away, sigma, _described(tails)).reshape(-1, *mean.shape) + mean


@lru_cache(maxsize=256)
def _described(tails: tuple[tuple[float, float], ...]) -> Float64:
    """Tails as [tails, 3]: probability, side, and the standard normal's quantile."""
    return np.array([(probability, side, NormalDist().inv_cdf(probability)) for probability, side in tails])


def by_kernel(deviations: Float64, sigma: Float64, tails: Float64) -> Float64:
    """Quantiles less the means, of mixtures deviations [mixtures, n], sigma [mixtures, n or 1]: [tails, mixtures]."""
    kernel = binaries.load()
    assert kernel is not None, "it was asked whether there is one. This is a bug."
    mixtures, n = deviations.shape
    found, work = np.empty((len(tails), mixtures)), np.empty(2 * (n + 3))
    given, description, where, room = map(binaries.address, (deviations, tails, found, work))
    kernel.quantiles(given, binaries.address(sigma), mixtures, n, sigma.shape[1], description, len(tails), where, room)
    return found


def by_bisection(deviations: Float64, sigma: Float64, tails: Float64) -> Float64:
    """The same, slow and obvious: the kernel's specification, and what stands in where it is missing."""
    probability, side, z = (column[:, None] for column in tails.T)
    components = side[..., None] * deviations  # [tails, mixtures, n]
    # A mixture's quantile lies between the smallest and the largest of its components'.
    ends = components + z[..., None] * sigma
    low, high = ends.min(axis=-1), ends.max(axis=-1)
    while True:
        middle = low + 0.5 * (high - low)
        if ((middle <= low) | (middle >= high)).all():
            return np.asarray(side * middle)
        terms = torch.from_numpy((components - middle[..., None]) / (math.sqrt(2.0) * sigma)).erfc_().numpy()
        lacking = 0.5 * terms.mean(axis=-1) < probability
        low, high = np.where(lacking, middle, low), np.where(lacking, high, middle)
