"""Draws → summaries: what a committee's answers say, and how far to trust it. Float64 throughout.

Samples lie along the last axis here (see `reductions`), so that a row's summary has the same bits alone and in company,
and never depends on how the sampling was cut into pieces. Knows nothing of masks, models' files or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from models.architecture import VARIANCE_FLOOR
from models.features import Float32, Float64
from service.engine.mixtures import as_tail, tail_quantiles
from service.engine.reductions import (
    centred,
    filled_up,
    mean_over_samples,
    moments,
    quantiles_over_samples,
    variance_of,
)

Part = TypeVar("Part")
_TINY = np.finfo(np.float64).tiny
IntervalKind = Literal["epistemic", "predictive", "conformal"]


@dataclass(frozen=True, slots=True, eq=False)
class RegressionDraws:
    """means and variances [rows, outputs, samples] in raw units; variances None where nothing is known of the noise.

    `variances` may have a single sample: noise that is the same for all.
    """

    means: Float64
    variances: Float64 | None


class Widths(NamedTuple):
    """Conformal quantiles [outputs], infinite where a level is out of reach, in units of std + epsilon [outputs]."""

    quantiles: Float64
    epsilon: Float64


class Interval(NamedTuple):
    """A central interval [rows, outputs]; bounds None where it is undefined."""

    level: float
    kind: IntervalKind
    lower: Float64 | None
    upper: Float64 | None


class RegressionSummary(NamedTuple):
    """All arrays [rows, outputs]; None where undefined (spreads at one sample, noise that is not known)."""

    mean: Float64
    std: Float64 | None
    epistemic_std: Float64 | None
    aleatoric_std: Float64 | None
    stderr: Float64 | None
    interval: Interval
    quantiles: dict[float, Float64 | None]

    def some(self, rows: slice) -> RegressionSummary:
        """The summary of some of its rows: views."""
        interval = self.interval
        return RegressionSummary(
            self.mean[rows],
            _cut(self.std, rows),
            _cut(self.epistemic_std, rows),
            _cut(self.aleatoric_std, rows),
            _cut(self.stderr, rows),
            Interval(interval.level, interval.kind, _cut(interval.lower, rows), _cut(interval.upper, rows)),
            {probability: _cut(found, rows) for probability, found in self.quantiles.items()},
        )


class ClassificationSummary(NamedTuple):
    """probabilities, std and stderr [rows, classes]; votes [rows, classes] counts; the others [rows], in nats.

    stderr and votes are None where nothing was sampled. prediction_set [rows, classes]: which classes are in it; None
    where no calibration holds.
    """

    winners: np.ndarray[tuple[int], np.dtype[np.int64]]
    probabilities: Float64
    std: Float64 | None
    stderr: Float64 | None
    predictive_entropy: Float64
    expected_entropy: Float64
    mutual_information: Float64
    variation_ratio: Float64
    votes: np.ndarray[tuple[int, int], np.dtype[np.int64]] | None
    prediction_set: npt.NDArray[np.bool_] | None = None

    def some(self, rows: slice) -> ClassificationSummary:
        """The summary of some of its rows: views."""
        return ClassificationSummary(
            self.winners[rows],
            self.probabilities[rows],
            _cut(self.std, rows),
            _cut(self.stderr, rows),
            self.predictive_entropy[rows],
            self.expected_entropy[rows],
            self.mutual_information[rows],
            self.variation_ratio[rows],
            None if self.votes is None else self.votes[rows],
            None if self.prediction_set is None else self.prediction_set[rows],
        )


def regression_draws(
    outputs: Float32,
    mean: Float64,
    scale: Float64,
    variance_head: bool,
    noise_variance: Float64 | None,
    temperature: float = 1.0,
) -> RegressionDraws:
    """Head outputs [samples, rows, width] → draws: mean × scale + shift, variance × scale² × temperature."""
    count = len(mean)
    means = _samples_last(outputs[..., :count])
    means *= scale[:, None]
    means += mean[:, None]
    if variance_head:
        variances = np.logaddexp(0.0, _samples_last(outputs[..., count:]))
        variances += VARIANCE_FLOOR
        variances *= (scale**2 * temperature)[:, None]
        return RegressionDraws(means, variances)
    if noise_variance is None:
        return RegressionDraws(means, None)
    variances = np.empty((*means.shape[:2], 1))
    variances[:] = noise_variance[:, None]
    return RegressionDraws(means, variances)


def class_probabilities(outputs: Float32, temperature: float = 1.0) -> Float64:
    """Logits [samples, rows, classes] → softmax(logits / temperature): probabilities [rows, classes, samples]."""
    samples, rows, classes = outputs.shape
    lengths, values = filled_up(1, (rows, classes, samples))
    p: Float64 = values[0]
    p[:] = outputs.transpose(1, 2, 0)
    p -= np.maximum.reduce(p, axis=1, keepdims=True)
    if temperature != 1.0:
        p /= temperature
    torch.from_numpy(lengths[0]).exp_()
    # In the order of the classes, whatever the number of samples: a lone one would be added up in another.
    p /= np.add.reduce(p, axis=1, keepdims=True) if samples > 1 else np.add.accumulate(p, axis=1)[:, -1:]
    return p


def summarise_regression(
    draws: RegressionDraws, level: float, probabilities: tuple[float, ...], widths: Widths | None = None
) -> RegressionSummary:
    """Law of total variance (Kendall & Gal 2017): total = epistemic (spread of means) + aleatoric (mean of variances).

    Spreads of draws use n − 1. Quantiles are those of the mixture of normals where the noise is known, else of the
    means alone. So are intervals ("predictive", "epistemic"), unless calibrated widths are given ("conformal").
    """
    means, variances = draws.means, draws.variances
    n = means.shape[-1]
    mean, deviations = centred(means)
    epistemic = variance_of(deviations)
    edge = (1.0 - level) / 2.0
    found: Sequence[Float64 | None] = (None,) * (2 + len(probabilities))
    if variances is not None:
        tails = ((edge, 1.0), (edge, -1.0), *map(as_tail, probabilities))
        found = list(tail_quantiles(mean, deviations, variances, tails))
    elif epistemic is not None:
        found = quantiles_over_samples(means, (edge, 1.0 - edge, *probabilities))
    aleatoric = None if variances is None else mean_over_samples(variances)
    total = _root(None if epistemic is None else epistemic if aleatoric is None else epistemic + aleatoric)
    interval = Interval(level, "epistemic" if variances is None else "predictive", found[0], found[1])
    if widths is not None and total is not None:
        interval = _conformal(level, mean, total, widths)
    return RegressionSummary(
        mean=mean,
        std=total,
        epistemic_std=_root(epistemic),
        aleatoric_std=_root(aleatoric),
        stderr=_root(None if epistemic is None else epistemic / n),
        interval=interval,
        quantiles=dict(zip(probabilities, found[2:], strict=True)),
    )


def _conformal(level: float, mean: Float64, std: Float64, widths: Widths) -> Interval:
    """The mean ± quantile × (std + ε); without bounds where there were too few calibration rows for the level."""
    if not np.isfinite(widths.quantiles).all():
        return Interval(level, "conformal", None, None)
    half = widths.quantiles * (std + widths.epsilon)
    return Interval(level, "conformal", mean - half, mean + half)


def summarise_classification(
    probabilities: Float64,
    aggregate: Literal["mean", "vote"],
    weights: Float64 | None = None,
    threshold: float | None = None,
) -> ClassificationSummary:
    """Draws [rows, classes, samples] → entropies in nats (Houlsby et al. 2011), votes, and the aggregate's winners.

    With `weights` [samples] the winners are those of the probabilities' weighted mean, instead of the aggregate's. Ties
    go to the lowest index. Mutual information is clamped at 0, where rounding would take it below. Given a calibrated
    threshold, a prediction set holds every class whose probability lacks no more than that to 1, and the winner: it is
    never empty.
    """
    rows, _, n = probabilities.shape
    mean, variance = moments(probabilities)
    # Subtracted from 0, not negated: an answer never says −0.
    predictive = 0.0 - np.add.reduce(_p_log_p(mean), axis=-1)
    expected = 0.0 - np.add.reduce(_p_log_p(probabilities).reshape(rows, -1), axis=-1) / n
    votes = _votes(probabilities)
    scores = mean if aggregate == "mean" else votes
    if weights is not None:
        scores = mean_over_samples(probabilities * weights)
    winners = scores.argmax(axis=-1)
    likely = None
    if threshold is not None:
        likely = 1.0 - mean <= threshold
        likely[np.arange(rows), winners] = True
    return ClassificationSummary(
        winners=winners,
        probabilities=mean,
        std=_root(variance),
        stderr=_root(None if variance is None else variance / n),
        predictive_entropy=predictive,
        expected_entropy=expected,
        mutual_information=np.maximum(predictive - expected, 0.0),
        variation_ratio=1.0 - np.maximum.reduce(votes, axis=-1) / n,
        votes=votes,
        prediction_set=likely,
    )


def joined(parts: Sequence[Part]) -> Part:
    """Named tuples of arrays about successive rows as one: arrays end to end, None where it was None."""
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, dict):
        return {name: _joined([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return type(first)(*map(_joined, zip(*parts, strict=True)))
    return first


def _samples_last(outputs: Float32) -> Float64:
    """[samples, rows, width] float32 → [rows, width, samples] float64."""
    return np.ascontiguousarray(outputs.transpose(1, 2, 0), np.float64)


def _votes(probabilities: Float64) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """How many samples [rows, classes] rank each class first."""
    rows, classes, _ = probabilities.shape
    choices = probabilities.argmax(axis=1)  # [rows, samples]
    choices += np.arange(0, rows * classes, classes)[:, None]
    return np.bincount(choices.ravel(), minlength=rows * classes).reshape(rows, classes)


def _p_log_p(p: Float64) -> Float64:
    """Terms of an entropy, with 0 ln 0 = 0."""
    logs = np.maximum(p, _TINY)
    np.log(logs, out=logs)
    logs *= p
    return logs


def _root(variance: Float64 | None) -> Float64 | None:
    return None if variance is None else np.sqrt(variance)


def _cut(values: Float64 | None, rows: slice) -> Float64 | None:
    return None if values is None else values[rows]
