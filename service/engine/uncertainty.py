"""Draws → summaries: what a committee's answers say, and how far to trust it. Float64 throughout.

Samples lie along the last axis here. NumPy reduces a contiguous last axis by itself, whatever the other axes are, so a
row's summary has the same bits alone and in company, and never depends on how the sampling was cut into pieces.
Knows nothing of masks, models' files or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from models.features import Float32, Float64

VARIANCE_FLOOR = 1e-6
# (mixture, component) terms that one step of the quantile search handles: they stay in the second-level cache.
_QUANTILE_TERMS = 1 << 15
_QUANTILE_STEPS = 200
_QUANTILE_TOLERANCE = 1e-7
_SMALLEST = 1e-16
_VECTOR = 64
_ROOT_HALF = math.sqrt(0.5)
_ROOT_PI = math.sqrt(math.pi)

Part = TypeVar("Part")
IntervalKind = Literal["epistemic", "predictive", "conformal"]


@dataclass(frozen=True, slots=True, eq=False)
class RegressionDraws:
    """means and variances [rows, outputs, samples] in raw units; variances None where nothing is known of the noise.

    `variances` may have a single sample: noise that is the same for all.
    """

    means: Float64
    variances: Float64 | None


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """A central interval [rows, outputs]; bounds None where it is undefined."""

    level: float
    kind: IntervalKind
    lower: Float64 | None
    upper: Float64 | None


@dataclass(frozen=True, slots=True, eq=False)
class RegressionSummary:
    """All arrays [rows, outputs]; None where undefined (spreads at one sample, noise that is not known)."""

    mean: Float64
    std: Float64 | None
    epistemic_std: Float64 | None
    aleatoric_std: Float64 | None
    stderr: Float64 | None
    interval: Interval
    quantiles: dict[float, Float64 | None]


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationSummary:
    """probabilities, std and stderr [rows, classes]; votes [rows, classes] counts; the others [rows], in nats."""

    winners: np.ndarray[tuple[int], np.dtype[np.int64]]
    probabilities: Float64
    std: Float64 | None
    stderr: Float64 | None
    predictive_entropy: Float64
    expected_entropy: Float64
    mutual_information: Float64
    variation_ratio: Float64
    votes: np.ndarray[tuple[int, int], np.dtype[np.int64]]


def regression_draws(
    outputs: Float32, mean: Float64, scale: Float64, variance_head: bool, noise_variance: Float64 | None
) -> RegressionDraws:
    """Head outputs [samples, rows, width] → draws in raw units: mean × scale + shift, variance × scale²."""
    count = len(mean)
    means = _samples_last(outputs[..., :count]) * scale[:, None] + mean[:, None]
    if variance_head:
        pre_activation = _samples_last(outputs[..., count:])
        variances = (np.logaddexp(0.0, pre_activation) + VARIANCE_FLOOR) * (scale**2)[:, None]
        return RegressionDraws(means, variances)
    if noise_variance is not None:
        return RegressionDraws(means, np.broadcast_to(noise_variance[:, None], (*means.shape[:2], 1)))
    return RegressionDraws(means, None)


def class_probabilities(outputs: Float32) -> Float64:
    """Logits [samples, rows, classes] → softmax probabilities [rows, classes, samples]."""
    logits = np.ascontiguousarray(outputs.transpose(1, 0, 2), np.float64)  # [rows, samples, classes]
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= np.add.reduce(logits, axis=-1, keepdims=True)
    return np.ascontiguousarray(logits.transpose(0, 2, 1))


def summarise_regression(draws: RegressionDraws, level: float, probabilities: tuple[float, ...]) -> RegressionSummary:
    """Law of total variance (Kendall & Gal 2017): total = epistemic (spread of means) + aleatoric (mean of variances).

    Spreads of draws use n − 1. Intervals and quantiles are those of the mixture of normals where the noise is known
    ("predictive"), else of the means alone ("epistemic").
    """
    means, variances = draws.means, draws.variances
    n = means.shape[-1]
    mean, epistemic_variance = _moments(means)
    aleatoric_variance = _mean(variances) if variances is not None else None
    kind: IntervalKind = "epistemic" if variances is None else "predictive"
    edge = (1.0 - level) / 2.0
    found: Sequence[Float64 | None] = (None,) * (2 + len(probabilities))
    if variances is not None:
        tails = ((edge, 1.0), (edge, -1.0), *map(_tail, probabilities))
        found = list(_tail_quantiles(means, variances, tails))
    elif n > 1:
        found = list(np.quantile(means, (edge, 1.0 - edge, *probabilities), axis=-1))
    return RegressionSummary(
        mean=mean,
        std=_total(epistemic_variance, aleatoric_variance),
        epistemic_std=None if epistemic_variance is None else np.sqrt(epistemic_variance),
        aleatoric_std=None if aleatoric_variance is None else np.sqrt(aleatoric_variance),
        stderr=None if epistemic_variance is None else np.sqrt(epistemic_variance / n),
        interval=Interval(level, kind, found[0], found[1]),
        quantiles=dict(zip(probabilities, found[2:], strict=True)),
    )


def summarise_classification(probabilities: Float64, aggregate: Literal["mean", "vote"]) -> ClassificationSummary:
    """Draws [rows, classes, samples] → entropies in nats (Houlsby et al. 2011), votes, and the aggregate's winners.

    Ties go to the lowest index. Mutual information is clamped at 0, where rounding would take it below.
    """
    rows, classes, n = probabilities.shape
    mean, variance = _moments(probabilities)
    choices = probabilities.argmax(axis=1)  # [rows, samples]
    votes = np.stack([np.count_nonzero(choices == k, axis=-1) for k in range(classes)], axis=-1).reshape(rows, classes)
    predictive_entropy = _entropy(mean)
    expected_entropy = _mean(_entropy(probabilities.transpose(0, 2, 1)))
    return ClassificationSummary(
        winners=(mean if aggregate == "mean" else votes).argmax(axis=-1),
        probabilities=mean,
        std=None if variance is None else np.sqrt(variance),
        stderr=None if variance is None else np.sqrt(variance / n),
        predictive_entropy=predictive_entropy,
        expected_entropy=expected_entropy,
        mutual_information=np.maximum(predictive_entropy - expected_entropy, 0.0),
        variation_ratio=1.0 - votes.max(axis=-1) / n,
        votes=votes,
    )


def mixture_quantiles(means: Float64, variances: Float64, probabilities: tuple[float, ...]) -> Float64:
    """Quantiles of equal-weight mixtures of normals: [probabilities, rows, outputs].

    means [rows, outputs, n]; variances likewise, or with one sample.
    """
    return _tail_quantiles(means, variances, tuple(map(_tail, probabilities)))


def _tail(probability: float) -> tuple[float, float]:
    """A quantile as a tail probability and its side.

    Upper quantiles are lower ones of the mirrored mixture: near 1 a probability has few digits left, 1 − p has all.
    """
    return (probability, 1.0) if probability <= 0.5 else (1.0 - probability, -1.0)


def _tail_quantiles(means: Float64, variances: Float64, tails: tuple[tuple[float, float], ...]) -> Float64:
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
    mean, variance = _moments(mu)
    spread = np.sqrt((0.0 if variance is None else variance) + _mean(sigma * sigma))
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
    return 0.5 * _mean(tails), _mean(bells) * _ROOT_HALF / _ROOT_PI


def _elementwise(function: Callable[[torch.Tensor], torch.Tensor], values: Float64) -> Float64:
    """A PyTorch function of every value, without a ragged end: see `plan`."""
    padded = np.empty(-(-values.size // _VECTOR) * _VECTOR)
    padded[: values.size] = values.ravel()
    padded[values.size :] = 0.0
    return np.asarray(function(torch.from_numpy(padded)).numpy()[: values.size].reshape(values.shape))


def joined(parts: Sequence[Part]) -> Part:
    """Summaries of successive rows as one: arrays end to end, None where it was None."""
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, dict):
        return {name: _joined([part[name] for part in parts]) for name in first}
    if isinstance(first, (RegressionSummary, ClassificationSummary, Interval)):
        names = (field.name for field in fields(first))
        return type(first)(*(_joined([getattr(part, name) for part in parts]) for name in names))
    return first


def _samples_last(outputs: Float32) -> Float64:
    """[samples, rows, width] float32 → [rows, width, samples] float64."""
    return np.ascontiguousarray(outputs.transpose(1, 2, 0), np.float64)


def _mean(values: Float64) -> Float64:
    return np.asarray(np.add.reduce(values, axis=-1) / values.shape[-1])


def _moments(values: Float64) -> tuple[Float64, Float64 | None]:
    """Mean over samples, and two-pass variance divided by n − 1; None for a single sample.

    Both are taken of differences from the first sample, so that equal samples have a variance of exactly 0.
    """
    first, n = values[..., :1], values.shape[-1]
    deviations = values - first
    shift = _mean(deviations)[..., None]
    mean = (first + shift)[..., 0]
    if n == 1:
        return mean, None
    deviations -= shift
    deviations *= deviations
    return mean, np.add.reduce(deviations, axis=-1) / (n - 1)


def _entropy(probabilities: Float64) -> Float64:
    """−Σ p ln p over the last axis, with 0 ln 0 = 0."""
    p = np.ascontiguousarray(probabilities)
    logs = np.log(np.maximum(p, np.finfo(np.float64).tiny))
    logs *= p
    return np.asarray(0.0 - np.add.reduce(logs, axis=-1))


def _total(epistemic: Float64 | None, aleatoric: Float64 | None) -> Float64 | None:
    if epistemic is None:
        return None
    return np.sqrt(epistemic if aleatoric is None else epistemic + aleatoric)
