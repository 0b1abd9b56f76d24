"""Quantiles of mixtures against SciPy, a root search, and the definition itself."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from service.engine import mixtures


@pytest.fixture(autouse=True, params=["kernel", "bisection"])
def finder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel, and what stands in for it: both have to be right."""
    if request.param == "bisection":
        monkeypatch.setattr(mixtures, "by_kernel", mixtures.by_bisection)


def _normal(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def _mixtures(kind: str, rows: int, n: int, spread: float, seed: int) -> np.ndarray:
    """Means [rows, 1, n] whose spread is of that order: bell-shaped, skew, in two heaps, in steps, or all the same."""
    random = np.random.Generator(np.random.PCG64(seed))
    shape = (rows, 1, n)
    means = {
        "bell": random.standard_normal,
        "skew": lambda shape: random.standard_exponential(shape) ** 2,
        "two heaps": lambda shape: (random.random(shape) < 0.3) * 3.0 + 0.1 * random.standard_normal(shape),
        "steps": lambda shape: random.integers(0, 4, shape) * 1.0,
        "same": np.ones,
    }[kind](shape)
    return means * spread + random.standard_normal((rows, 1, 1))


def _variances(noise: str, means: np.ndarray, seed: int) -> np.ndarray:
    """Shared by a row's samples, or one for each: alike, or of very different sizes."""
    rows, outputs, n = means.shape
    shape = (rows, outputs, 1 if noise == "shared" else n)
    return np.exp({"shared": 0.5, "alike": 0.5, "unlike": 5.0}[noise] * _normal(shape, seed))


kinds = st.sampled_from(["bell", "skew", "two heaps", "steps", "same"])
noises = st.sampled_from(["shared", "alike", "unlike"])
spreads = st.sampled_from([1e-9, 0.1, 0.5, 2.0, 20.0, 1e4, 1e9])


@settings(max_examples=40)
@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 1000),
    probability=st.one_of(st.sampled_from([1e-9, 0.05, 0.5, 0.95]), st.floats(1e-6, 1 - 1e-6)),
    log_scale=st.floats(-8, 8),
)
def test_mixture_quantiles_equal_a_root_search(n: int, seed: int, probability: float, log_scale: float) -> None:
    """Quantiles of mixtures, narrow or wide components, are the roots that SciPy finds."""
    means, spread = _normal((n,), seed), np.exp(log_scale + 0.3 * _normal((n,), seed + 1))
    (got,) = mixtures.mixture_quantiles(means[None, None], (spread**2)[None, None], (probability,)).ravel()
    components = norm.ppf(probability, means, spread)
    low, high = components.min() - 1e-9, components.max() + 1e-9
    expected = brentq(lambda x: norm.cdf(x, means, spread).mean() - probability, low, high, xtol=1e-14, rtol=1e-14)
    # Where the density all but vanishes between components, many x have the same probability: compare that.
    close = np.isclose(got, expected, rtol=1e-9, atol=1e-9 * spread.max())
    assert close or abs(norm.cdf(got, means, spread).mean() - probability) < 1e-14


@pytest.mark.parametrize("first", range(0, 3000, 500))
def test_mixture_quantiles_arrive_wherever_components_lie(first: int) -> None:
    """Few components far apart, narrow and wide, where Newton's method alone would wander: the probability is met."""
    probabilities = (1e-12, 0.05, 0.3, 0.5, 0.95, 1 - 1e-9)
    for seed in range(first, first + 500):
        random = np.random.Generator(np.random.PCG64(seed))
        n = int(random.integers(2, 12))
        spread, means = np.exp(random.standard_normal((1, 1, n)) * 1.5), random.standard_normal((1, 1, n)) * 10
        found = mixtures.mixture_quantiles(means, spread**2, probabilities).ravel()
        for probability, x in zip(probabilities, found, strict=True):
            tail, met = (norm.cdf, probability) if probability <= 0.5 else (norm.sf, 1 - probability)
            assert tail(x, means, spread).mean() == pytest.approx(met, rel=1e-9)


@pytest.mark.parametrize("probability", [5e-324, 1e-300, 1e-50, 1 - 2**-53])
def test_quantiles_next_to_0_and_1_keep_their_digits(probability: float) -> None:
    """A single component gives the normal quantile, however small the tail."""
    found = mixtures.mixture_quantiles(np.full((1, 1, 3), 2.0), np.full((1, 1, 1), 9.0), (probability,)).item()
    expected = norm.ppf(probability, 2.0, 3.0) if probability < 0.5 else norm.isf(1 - probability, 2.0, 3.0)
    assert found == pytest.approx(expected, rel=1e-12)


@settings(max_examples=150)
@given(
    kind=kinds,
    noise=noises,
    spread=spreads,
    n=st.integers(1, 300),
    seed=st.integers(0, 1000),
    probability=st.one_of(st.sampled_from([1e-12, 0.01, 0.05, 0.25, 0.5]), st.floats(1e-9, 0.5)),
)
def test_the_probability_is_met_next_to_every_quantile(
    kind: str, noise: str, spread: float, n: int, seed: int, probability: float
) -> None:
    """A little below the quantile there is less than the probability, a little above more: on either side."""
    means = _mixtures(kind, 4, n, spread, seed)
    variances = _variances(noise, means, seed + 1)
    sigma = np.sqrt(variances)
    lower, upper = mixtures.tail_quantiles(
        *mixtures.centred(means), variances, ((probability, 1.0), (probability, -1.0))
    )
    # One part in 1e11 of the narrowest component, but for what rounding the components' places costs.
    little = 1e-11 * sigma.min(axis=-1) + 1e-15 * (np.abs(means).max(axis=-1) + 8 * sigma.max(axis=-1))
    for tail, found, side in ((norm.cdf, lower, 1), (norm.sf, upper, -1)):
        before, after = (tail((found + d * side * little)[..., None], means, sigma).mean(axis=-1) for d in (-1, 1))
        assert (before <= probability * (1 + 1e-13)).all()
        assert (after >= probability * (1 - 1e-13)).all()


@settings(max_examples=60)
@given(
    kind=kinds,
    noise=noises,
    spread=spreads,
    rows=st.integers(2, 64),
    n=st.integers(1, 300),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_mixture_has_the_same_quantiles_in_any_company(
    kind: str, noise: str, spread: float, rows: int, n: int, seed: int, data: st.DataObject
) -> None:
    """Bit for bit: wherever its search leads it, whoever is beside it."""
    means = np.concatenate([_mixtures(kind, rows, n, spread, seed), _mixtures("bell", rows, n, 0.4, seed + 1)])
    variances = _variances(noise, means, seed + 2)
    chosen = data.draw(st.lists(st.integers(0, 2 * rows - 1), min_size=1, max_size=rows))
    whole = mixtures.mixture_quantiles(means, variances, (0.05, 0.95, 0.3))
    part = mixtures.mixture_quantiles(means[chosen], variances[chosen], (0.05, 0.95, 0.3))
    assert np.array_equal(whole[:, chosen], part)


@pytest.mark.parametrize("log_sigma", [-400, -320, -150, -60, -12, -3, 3, 12, 60, 150])
def test_noise_of_any_size_gives_finite_quantiles(log_sigma: int) -> None:
    """Down to none at all, where quantiles are the sample's, and up to where the mixture is a normal distribution."""
    means, sigma = _normal((3, 1, 40)), 10.0**log_sigma if log_sigma > -330 else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mixtures.mixture_quantiles(means, np.full((3, 1, 1), sigma**2), (0.01, 0.31, 0.5, 0.93))
    assert np.isfinite(found).all()
    if log_sigma <= -12:
        for probability, quantile in zip((0.01, 0.31, 0.93), found[[0, 1, 3]], strict=True):
            expected = np.quantile(means, probability, axis=-1, method="inverted_cdf")
            np.testing.assert_allclose(quantile, expected, rtol=1e-9, atol=1e-9)
    if log_sigma >= 12:
        np.testing.assert_allclose(found[0] / sigma, norm.ppf(0.01), rtol=1e-9)


@pytest.mark.parametrize("gap", [1e1, 1e2, 1e5])
def test_a_quantile_in_a_gap_lies_in_the_gap(gap: float) -> None:
    """Half the components here, half there: the median is between them, and neither tail notices the other heap."""
    means = np.repeat([0.0, gap], 10)[None, None]
    lower, median, upper = mixtures.mixture_quantiles(means, np.ones((1, 1, 1)), (0.05, 0.5, 0.95)).ravel()
    assert 0.0 < median < gap
    assert norm.cdf(median, means, 1.0).mean() == pytest.approx(0.5, rel=1e-13)
    assert lower == pytest.approx(norm.ppf(0.1), rel=1e-6)
    assert upper == pytest.approx(gap + norm.ppf(0.9), rel=1e-6)
