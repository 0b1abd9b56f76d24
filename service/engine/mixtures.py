"""Quantiles of mixtures of normals: what a committee with known noise says of the next observation.

Knows nothing of committees or networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import torch

from models.features import Float64
from service.engine.reductions import mean_over_samples, moments

# (mixture, component) terms that one step of the quantile search handles: they stay in the second-level cache.
_QUANTILE_TERMS = 1 << 15
_QUANTILE_STEPS = 200
_QUANTILE_TOLERANCE = 1e-7
_SMALLEST = 1e-16
_VECTOR = 64
_ROOT_HALF = math.sqrt(0.5)
_ROOT_PI = math.sqrt(math.pi)


def mixture_quantiles(means: Float64, variances: Float64, probabilities: tuple[float, ...]) -> Float64:
    """Quantiles of equal-weight mixtures of normals: [probabilities, rows, outputs].

    means [rows, outputs, n]; variances likewise, or with one sample.
    """
    return tail_quantiles(means, variances, tuple(map(as_tail, probabilities)))


def as_tail(probability: float) -> tuple[float, float]:
    """A quantile as a tail probability and its side.

    Upper quantiles are lower ones of the mirrored mixture: near 1 a probability has few digits left, 1 − p has all.
    """
    return (probability, 1.0) if probability <= 0.5 else (1.0 - probability, -1.0)


def tail_quantiles(means: Float64, variances: Float64, tails: tuple[tuple[float, float], ...]) -> Float64:
    """For each (tail probability, side): where the mixture has that much below (side 1) or above (−1)."""
    rows, outputs, n = means.shape
    mu = means.reshape(rows * outputs, n)
    sigma = np.broadcast_to(np.sqrt(variances).reshape(-1, variances.shape[-1]), (len(mu), variances.shape[-1]))
    tail, side = (np.array(values) for values in zip(*tails, strict=True))
    chunk = max(1, _QUANTILE_TERMS // (n * len(tails)))
    parts = [
        _lane_quantiles(mu[start : start + chunk], sigma[start : start + chunk], tail, side)
        for start in range(0, len(mu), chunk)
    ]
    return np.asarray(np.concatenate(parts, axis=1).reshape(-1, rows, outputs))


def _lane_quantiles(mu: Float64, sigma: Float64, tail: Float64, side: Float64) -> Float64:
    """Newton's method for mixtures with components mu [mixtures, n], sigma [mixtures, n or 1]: [tails, mixtures].

    A mixture's quantile lies between the smallest and the largest of its components'. The search stays inside that
    bracket and halves it where a Newton step would not at least halve the step before. Each (tail, mixture) is a lane
    that goes its own way and is left alone once it has arrived, so that it never depends on its neighbours.
    """
    z = np.array([NormalDist().inv_cdf(probability) for probability in tail])[:, None]
    mirrored = side[:, None, None] * mu  # [tails, mixtures, n]
    components = mirrored + z[..., None] * sigma
    low, high = components.min(axis=-1).ravel(), components.max(axis=-1).ravel()
    mean, variance = moments(mu)
    spread = np.sqrt((0.0 if variance is None else variance) + mean_over_samples(sigma * sigma))
    x: Float64 = np.clip((side[:, None] * mean + z * spread).ravel(), low, high)
    mixture = np.tile(np.arange(len(mu)), len(tail))
    target, sign = np.repeat(tail, len(mu)), np.repeat(side, len(mu))
    close = _QUANTILE_TOLERANCE * sigma.min(axis=1)[mixture]
    step = high - low
    (going,) = np.nonzero(low < high)
    for _ in range(_QUANTILE_STEPS):
        if not len(going):
            break
        at, of = x[going], mixture[going]
        below, density = _mixture_cdf(at, sign[going, None] * mu[of], sigma[of])
        missing = target[going] - below
        low[going] = np.where(missing > 0.0, at, low[going])
        high[going] = np.where(missing > 0.0, high[going], at)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = missing / density
        inside = (at + newton >= low[going]) & (at + newton <= high[going]) & (np.abs(newton) <= 0.5 * step[going])
        x[going] = np.where(inside, at + newton, 0.5 * (low[going] + high[going]))
        step[going] = np.where(inside, np.abs(newton), high[going] - low[going])
        # The error after a Newton step is of the order of the step's square.
        arrived = (inside & (step[going] <= close[going])) | (x[going] == at) | (step[going] <= _SMALLEST * np.abs(at))
        going = going[~arrived]
    return sign.reshape(len(tail), -1) * x.reshape(len(tail), -1)


def _mixture_cdf(x: Float64, mu: Float64, sigma: Float64) -> tuple[Float64, Float64]:
    """Cumulative probability and density of each mixture at x [lanes]."""
    t = (x[:, None] - mu) / sigma
    tails = _elementwise(torch.erfc, t * -_ROOT_HALF)
    bells = _elementwise(torch.exp, t * t * -0.5) / sigma
    return 0.5 * mean_over_samples(tails), mean_over_samples(bells) * _ROOT_HALF / _ROOT_PI


def _elementwise(function: Callable[[torch.Tensor], torch.Tensor], values: Float64) -> Float64:
    """A PyTorch function of every value, without a ragged end, where kernels may round otherwise."""
    padded = np.empty(-(-values.size // _VECTOR) * _VECTOR)
    padded[: values.size] = values.ravel()
    padded[values.size :] = 0.0
    return np.asarray(function(torch.from_numpy(padded)).numpy()[: values.size].reshape(values.shape))
