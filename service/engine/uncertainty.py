"""Draws → summaries: what a committee's answers say, and how far to trust it. Float64 throughout.

Samples lie along the last axis here (see `reductions`), so that a row's summary has the same bits alone and in company,
and never depends on how the sampling was cut into pieces. Knows nothing of masks, models' files or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import numpy as np

from models.architecture import VARIANCE_FLOOR
from models.features import Float32, Float64
from service.engine.mixtures import as_tail, tail_quantiles
from service.engine.reductions import mean_over_samples, moments

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
    mean, epistemic_variance = moments(means)
    aleatoric_variance = mean_over_samples(variances) if variances is not None else None
    kind: IntervalKind = "epistemic" if variances is None else "predictive"
    edge = (1.0 - level) / 2.0
    found: Sequence[Float64 | None] = (None,) * (2 + len(probabilities))
    if variances is not None:
        tails = ((edge, 1.0), (edge, -1.0), *map(as_tail, probabilities))
        found = list(tail_quantiles(means, variances, tails))
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
    mean, variance = moments(probabilities)
    choices = probabilities.argmax(axis=1)  # [rows, samples]
    votes = np.stack([np.count_nonzero(choices == k, axis=-1) for k in range(classes)], axis=-1).reshape(rows, classes)
    predictive_entropy = _entropy(mean)
    expected_entropy = mean_over_samples(_entropy(probabilities.transpose(0, 2, 1)))
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
