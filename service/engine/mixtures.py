"""Quantiles of mixtures of normals: what a committee with known noise says of the next observation.

Every (tail, mixture) is a lane that goes its own way: whether it has arrived depends on itself alone, so its result has
the same bits alone and in company. Most lanes need one step. Knows nothing of committees or networks.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch

from models.features import Float64
from service.engine.reductions import centred, filled_up, mean_over_samples

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]

# (lane, component) terms of one step, which takes 40 bytes for each.
_TERMS = 1 << 16
_STEPS = 200
# Predicted error at which a lane is done, in units of √2 σ of its narrowest component.
_TOLERANCE = 1e-13
# Predicted error up to which the series is the best step there is.
_NEAR = 1e-3
# In smaller tails densities have few digits, or none: they are bisected to the end.
_SMALLEST_TAIL = 1e-280
# The smallest standard deviation that a variance can express.
_SMALLEST_SIGMA = np.array(1e-150)
_EPSILON = 1e-16
# Scalars as arrays: in-place operations take them in half the time.
_HALF, _ONE, _THREE_HALVES, _THREE, _FIVE = map(np.array, (0.5, 1.0, 1.5, 3.0, 5.0))
_ROOT_2, _ROOT_HALF, _HALF_ROOT_PI = map(np.array, (math.sqrt(2.0), math.sqrt(0.5), math.sqrt(math.pi) / 2.0))


class _Tails(NamedTuple):
    """What depends on the tails, and for the target on n, alone; [tails, 1] but for the expansion."""

    target: Float64  # 2n × probability
    side: Float64
    z: Float64
    tolerance: Float64
    expansion: Float64  # [4, tails, 1]: factors of the Cornish–Fisher expansion's terms


class _Lanes(NamedTuple):
    """Lanes to be searched: components and rates [lanes, n], the others [lanes]."""

    components: Float64
    rates: Float64 | None
    z: Float64
    target: Float64
    tolerance: Float64


class _Step(NamedTuple):
    """What is found at some lanes' points [...], and the way from there to their quantiles."""

    below: Float64  # twice the sum of the components' probabilities
    newton: Float64
    series: Float64
    error: Float64  # of the series, predicted


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


@np.errstate(all="ignore")  # steps that overflow, or are 0/0, are not taken
def tail_quantiles(
    mean: Float64, deviations: Float64, variances: Float64, tails: tuple[tuple[float, float], ...]
) -> Float64:
    """For each (tail probability ≤ ½, side): where the mixture has that much below (side 1) or above (−1).

    mean [rows, outputs]; deviations of the components' means from it [rows, outputs, n]; variances likewise, or with
    one sample. [tails, rows, outputs], to about 1e-12 of the narrowest component's standard deviation.
    """
    n = deviations.shape[-1]
    away = deviations.reshape(-1, n)  # [mixtures, n]
    sigma = np.maximum(np.sqrt(variances).reshape(-1, variances.shape[-1]), _SMALLEST_SIGMA)
    constants = _constants(tails, n)
    chunk = max(1, _TERMS // (n * len(tails)))
    parts = [
        _quantiles(away[start : start + chunk], sigma[start : start + chunk], constants)
        for start in range(0, len(away), chunk)
    ]
    found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return found.reshape(-1, *mean.shape) + mean


@lru_cache(maxsize=256)
def _constants(tails: tuple[tuple[float, float], ...], n: int) -> _Tails:
    probability, side = (np.array(values)[:, None] for values in zip(*tails, strict=True))
    z = np.array([[NormalDist().inv_cdf(tail)] for tail, _ in tails])
    of_kurtosis = (z**3 - 3.0 * z) / 24.0
    return _Tails(
        target=probability * (2 * n),
        side=side,
        z=z,
        tolerance=np.where(probability > _SMALLEST_TAIL, _TOLERANCE, -1.0),
        expansion=np.stack(
            [z - 3.0 * of_kurtosis, side * (z**2 - 1.0) / 6.0, of_kurtosis, (5.0 * z - 2.0 * z**3) / 36.0]
        ),
    )


def _quantiles(deviations: Float64, sigma: Float64, tails: _Tails) -> Float64:
    """Quantiles less the means, of mixtures deviations [mixtures, n], sigma [mixtures, n or 1]: [tails, mixtures].

    Inside, mixtures lie about 0 in units of √2 σ of the narrowest component, mirrored where the side is −1.
    """
    narrowest = sigma if sigma.shape[-1] == 1 else np.minimum.reduce(sigma, axis=-1, keepdims=True)
    rates = None if narrowest is sigma else narrowest / sigma
    unit = narrowest * _ROOT_2  # [mixtures, 1]
    means = deviations / unit
    components = tails.side[..., None] * means  # [tails, mixtures, n]
    x = _cornish_fisher(means, rates, tails)  # [tails, mixtures]
    step = _step(components, rates, x, tails.target)
    found = x + step.series
    arrived = step.error <= tails.tolerance
    if np.count_nonzero(arrived) < arrived.size:
        near = np.nonzero((step.error <= _NEAR) > arrived)
        if len(near[0]):
            again = _step(components[near], _of(rates, near), found[near], tails.target[near[0], 0])
            found[near] += again.series
            arrived[near] = again.error <= tails.tolerance[near[0], 0]
        far = np.nonzero(~arrived)
        if len(far[0]):
            constants = (constant[far[0], 0] for constant in (tails.z, tails.target, tails.tolerance))
            lanes = _Lanes(components[far], _of(rates, far), *constants)
            found[far] = _search(lanes, x[far], _Step(*(part[far] for part in step)))
    found *= tails.side
    found *= unit[:, 0]
    return found


def _of(rates: Float64 | None, lanes: tuple[Indices, ...]) -> Float64 | None:
    return None if rates is None else rates[lanes[1]]


def _cornish_fisher(means: Float64, rates: Float64 | None, tails: _Tails) -> Float64:
    """Quantiles from the first four moments (Cornish & Fisher 1938) of mixtures about 0: [tails, mixtures].

    means [mixtures, n]; rates likewise: the narrowest component's width over each one's, None where all are equal.
    """
    noise, twice = (_HALF, _ONE) if rates is None else (_HALF / (rates * rates), _ONE / (rates * rates))
    powers = np.empty((3, *means.shape))
    second, third, fourth = powers
    # Of a component: E x² = μ² + σ², E x³ = μ (μ² + 3σ²), E x⁴ = (μ² + 3σ²)² − 6σ⁴.
    np.multiply(means, means, out=second)
    second += noise
    np.add(second, twice, out=fourth)
    np.multiply(means, fourth, out=third)
    fourth *= fourth
    moments = mean_over_samples(powers)
    moments[2] -= _THREE_HALVES if rates is None else mean_over_samples(6.0 * noise * noise)
    # root × (z + a γ₁ + b γ₂ + c γ₁²) as a sum of parts: root, root γ₁, root (γ₂ + 3) and root γ₁², each × a factor.
    parts = np.empty((4, len(means)))
    np.sqrt(moments[0], out=parts[0])
    np.divide(moments[1:], moments[0], out=parts[1:3])
    np.multiply(parts[1], parts[1], out=parts[3])
    parts[2:] /= parts[0]
    return np.asarray(np.add.reduce(tails.expansion * parts[:, None], axis=0))


def _step(components: Float64, rates: Float64 | None, x: Float64, target: Float64) -> _Step:
    """A step from x to where F is the target: the inverse function's series to fourth order in Newton's step h.

    components [..., n]; rates likewise, or None; x [...]; target: 2n × probability.
    """
    below, density, c2, c3, c4 = _sums(components, rates, x)
    h = target - below
    h *= _HALF_ROOT_PI
    h /= density
    # cₖ: the k-th derivative of F over k! F′
    c2 /= density
    density *= _THREE
    c4 /= density
    density *= _HALF
    c3 /= density
    # h − c₂h² + (2c₂² − c₃)h³ + (5c₂(c₃ − c₂²) − c₄)h⁴
    square = c2 * c2
    series = c3 - square
    square -= series
    series *= c2
    series *= _FIVE
    series -= c4
    series *= h
    series += square
    series *= h
    series -= c2
    series *= h
    series *= h
    series += h
    # The next term is of the order of (c₃ + 1)²h⁵: c₂² is at most (3c₃ + 1) / 2.
    c3 += _ONE
    c3 *= h
    c3 *= h
    c3 *= c3
    c3 *= h
    return _Step(below, h, series, np.abs(c3))


def _sums(components: Float64, rates: Float64 | None, x: Float64) -> Float64:
    """Sums over components of 2F, and of F′ … F⁗ but for powers of 2 and √π: [5, ...].

    With w = (component − x) × rate, derivatives are exp(−w²) × rate times Hermite polynomials of w, so that one erfc
    and one exp give all five.
    """
    lengths, terms = filled_up(5, components.shape)
    w, bells, second, third, fourth = terms
    np.subtract(components, x[..., None], out=w)
    if rates is not None:
        w *= rates
    np.multiply(w, w, out=third)
    np.negative(third, out=bells)
    torch.from_numpy(lengths[1]).exp_()
    third -= _HALF
    np.subtract(third, _ONE, out=fourth)
    if rates is None:
        np.multiply(bells, w, out=second)
    else:
        bells *= rates
        np.multiply(w, rates, out=second)
        second *= bells
        rates = rates * rates
        third *= rates
        fourth *= rates
    third *= bells
    fourth *= second
    torch.from_numpy(lengths[0]).erfc_()
    return np.asarray(np.add.reduce(terms, axis=-1))


def _search(lanes: _Lanes, x: Float64, step: _Step) -> Float64:
    """The quantiles [lanes] of those that a step or two did not reach, from wherever they are.

    A mixture's quantile lies between the smallest and the largest of its components'. The search stays inside that
    bracket and halves it where a step would not at least halve the step before. Steps are the series', or Newton's in
    the logarithm of the probability, which tails take from any distance.
    """
    components, rates, z, target, tolerance = lanes
    z = z * _ROOT_HALF
    low = np.minimum.reduce(components, axis=-1) + (z if rates is None else z / np.minimum.reduce(rates, axis=-1))
    high = np.maximum.reduce(components, axis=-1) + z
    # Components are known to this much: it is their distance from the mean that was rounded.
    resolution = _EPSILON * np.maximum(np.abs(low), np.abs(high))
    found, place, last = np.empty(len(x)), np.arange(len(x)), high - low
    for _ in range(_STEPS):
        below, newton, series, error = step
        lacking = below < target
        low, high = np.where(lacking, np.fmax(low, x), low), np.where(lacking, high, np.fmin(high, x))
        logarithmic = newton * (np.log(target / below) * below / (target - below))
        move = np.where(error <= _NEAR, series, logarithmic)
        size, new = np.abs(move), x + move
        inside = (new >= low) & (new <= high) & (size <= 0.5 * last)
        new = np.where(inside, new, 0.5 * (low + high))
        last = np.where(inside, size, high - low)
        still = (new == x) | (last <= resolution)
        x = new
        step = _step(components, rates, x, target)
        arrived = step.error <= tolerance
        found[place] = np.where(arrived, x + step.series, x)
        going = ~(arrived | still)
        if not going.all():
            place = place[going]
            if not len(place):
                break
            components, rates = components[going], None if rates is None else rates[going]
            x, low, high, last, resolution, target, tolerance = (
                lane[going] for lane in (x, low, high, last, resolution, target, tolerance)
            )
            step = _Step(*(part[going] for part in step))
    return found
