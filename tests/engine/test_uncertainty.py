"""Summaries against closed forms, brute force and SciPy: formulas are believed by test, not by docstring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import entropy, norm

from service.engine import mixtures, uncertainty
from service.engine.uncertainty import RegressionDraws

shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 40))  # rows, outputs, samples


def _normal(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


@settings(max_examples=50)
@given(shape=shapes, seed=st.integers(0, 1000), level=st.floats(0.01, 0.99))
def test_regression_is_the_law_of_total_variance(shape: tuple[int, int, int], seed: int, level: float) -> None:
    """Mean, spreads and standard error are NumPy's; total variance is epistemic plus aleatoric."""
    means, variances = _normal(shape, seed), np.exp(_normal(shape, seed + 1))
    got = uncertainty.summarise_regression(RegressionDraws(means, variances), level, (0.5,))
    np.testing.assert_allclose(got.mean, means.mean(-1), atol=1e-12)
    np.testing.assert_allclose(got.aleatoric_std, np.sqrt(variances.mean(-1)))
    assert got.interval.kind == "predictive"
    if shape[-1] == 1:
        assert got.std is None
        assert got.epistemic_std is None
        assert got.stderr is None
    else:
        epistemic = means.std(-1, ddof=1)
        np.testing.assert_allclose(got.epistemic_std, epistemic, atol=1e-12)
        np.testing.assert_allclose(got.std**2, epistemic**2 + variances.mean(-1))
        np.testing.assert_allclose(got.stderr, epistemic / np.sqrt(shape[-1]), atol=1e-12)


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


def test_a_single_component_is_a_normal_distribution() -> None:
    """With one sample, or equal samples, the interval is the textbook normal interval."""
    for n in (1, 5):
        draws = RegressionDraws(np.full((1, 1, n), 3.0), np.full((1, 1, 1), 4.0))
        got = uncertainty.summarise_regression(draws, 0.9, ()).interval
        assert got.lower.item() == pytest.approx(norm.ppf(0.05, 3, 2), rel=1e-12)
        assert got.upper.item() == pytest.approx(norm.ppf(0.95, 3, 2), rel=1e-12)


def test_without_known_noise_the_interval_is_epistemic() -> None:
    """No variance head and no noise: aleatoric is None, std is epistemic, and quantiles are those of the means."""
    means = _normal((4, 2, 50))
    got = uncertainty.summarise_regression(RegressionDraws(means, None), 0.8, (0.25,))
    assert got.aleatoric_std is None
    assert np.array_equal(got.std, got.epistemic_std)
    assert got.interval.kind == "epistemic"
    np.testing.assert_allclose(got.interval.lower, np.quantile(means, 0.1, axis=-1))
    np.testing.assert_allclose(got.interval.upper, np.quantile(means, 0.9, axis=-1))
    np.testing.assert_allclose(got.quantiles[0.25], np.quantile(means, 0.25, axis=-1))


def test_one_sample_without_noise_has_no_interval() -> None:
    """One sample says nothing of a spread: bounds are undefined, not equal to the sample."""
    got = uncertainty.summarise_regression(RegressionDraws(np.ones((2, 1, 1)), None), 0.9, (0.5,))
    assert got.interval.lower is None
    assert got.interval.upper is None
    assert got.quantiles == {0.5: None}


def test_targets_are_unscaled_means_and_spreads_alike() -> None:
    """Raw mean is mean × scale + shift, raw variance is variance × scale²."""
    outputs = _normal((7, 3, 4)).astype(np.float32)
    shift, scale = np.array([10.0, -5.0]), np.array([2.0, 0.5])
    got = uncertainty.regression_draws(outputs, shift, scale, variance_head=True, noise_variance=None)
    np.testing.assert_allclose(got.means, (outputs[..., :2] * scale + shift).transpose(1, 2, 0), rtol=1e-6)
    expected = (np.log1p(np.exp(outputs[..., 2:].astype(float))) + 1e-6) * scale**2
    np.testing.assert_allclose(got.variances, expected.transpose(1, 2, 0), rtol=1e-9)


@settings(max_examples=50)
@given(
    rows=st.integers(1, 5),
    classes=st.integers(2, 12),
    n=st.integers(1, 40),
    seed=st.integers(0, 99),
    sharp=st.floats(0, 60),
)
def test_classification_against_scipy(rows: int, classes: int, n: int, seed: int, sharp: float) -> None:
    """Probabilities, entropies, votes and variation ratios are SciPy's and NumPy's, for flat and for sharp logits."""
    logits = (_normal((n, rows, classes), seed) * sharp).astype(np.float32)
    draws = uncertainty.class_probabilities(logits)
    p = softmax(logits.astype(float), axis=-1)
    np.testing.assert_allclose(draws, p.transpose(1, 2, 0), rtol=1e-12, atol=1e-300)
    got = uncertainty.summarise_classification(draws, "mean")
    np.testing.assert_allclose(got.probabilities, p.mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.predictive_entropy, entropy(p.mean(0), axis=-1), atol=1e-12)
    np.testing.assert_allclose(got.expected_entropy, entropy(p, axis=-1).mean(0), atol=1e-12)
    assert (got.mutual_information >= 0).all()
    np.testing.assert_allclose(got.mutual_information, got.predictive_entropy - got.expected_entropy, atol=1e-12)
    counts = np.stack([np.bincount(votes, minlength=classes) for votes in p.argmax(-1).T])
    assert np.array_equal(got.votes, counts)
    np.testing.assert_allclose(got.variation_ratio, 1 - counts.max(1) / n)
    assert np.array_equal(got.winners, p.mean(0).argmax(-1))
    assert np.array_equal(uncertainty.summarise_classification(draws, "vote").winners, counts.argmax(-1))
    if n == 1:
        assert got.std is None
    else:
        np.testing.assert_allclose(got.std, p.std(0, ddof=1), atol=1e-12)
        np.testing.assert_allclose(got.stderr, p.std(0, ddof=1) / np.sqrt(n), atol=1e-12)


def test_ties_go_to_the_lowest_index() -> None:
    """Equal probabilities and equal votes are decided for the first class."""
    draws = np.array([[[0.5, 0.5], [0.5, 0.5]]])
    assert uncertainty.summarise_classification(draws, "mean").winners.tolist() == [0]
    split = np.array([[[0.1, 0.9], [0.9, 0.1]]])
    assert uncertainty.summarise_classification(split, "vote").winners.tolist() == [0]


def test_votes_and_mean_may_disagree() -> None:
    """Two lukewarm votes beat one ardent one by count, not by mean."""
    draws = np.array([[[0.45, 0.45, 0.95], [0.55, 0.55, 0.05]]])
    assert uncertainty.summarise_classification(draws, "mean").winners.tolist() == [0]
    assert uncertainty.summarise_classification(draws, "vote").winners.tolist() == [1]


@settings(max_examples=40)
@given(
    rows=st.integers(2, 30), outputs=st.integers(1, 4), n=st.integers(1, 300), seed=st.integers(0, 99), data=st.data()
)
def test_a_rows_summary_has_the_same_bits_in_any_company(
    rows: int, outputs: int, n: int, seed: int, data: st.DataObject
) -> None:
    """Summaries of any rows, in any order, are bit for bit those rows of the whole: both tasks, every field."""
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    means, variances = _normal((rows, outputs, n), seed), np.exp(_normal((rows, outputs, n), seed + 1))
    whole = uncertainty.summarise_regression(RegressionDraws(means, variances), 0.9, (0.5,))
    part = uncertainty.summarise_regression(RegressionDraws(means[chosen], variances[chosen]), 0.9, (0.5,))
    for field in ("mean", "std", "epistemic_std", "aleatoric_std", "stderr"):
        one, other = getattr(whole, field), getattr(part, field)
        assert (one is None and other is None) or np.array_equal(one[chosen], other), field
    assert np.array_equal(whole.interval.lower[chosen], part.interval.lower)
    assert np.array_equal(whole.quantiles[0.5][chosen], part.quantiles[0.5])

    logits = _normal((n, rows, outputs + 1), seed).astype(np.float32)
    draws = uncertainty.class_probabilities(logits)
    assert np.array_equal(uncertainty.class_probabilities(logits[:, chosen]), draws[chosen])
    assert np.array_equal(uncertainty.class_probabilities(logits[n // 2 :]), draws[..., n // 2 :])
    one, other = (uncertainty.summarise_classification(d, "mean") for d in (draws, draws[chosen]))
    for field in ("probabilities", "predictive_entropy", "expected_entropy", "mutual_information", "votes"):
        assert np.array_equal(getattr(one, field)[chosen], getattr(other, field)), field


def test_standard_errors_cover_at_their_nominal_rate() -> None:
    """The true mean lies within 1.96 standard errors in 95 % of 2,000 repetitions, to binomial error."""
    repetitions, n = 2000, 100
    draws = RegressionDraws(_normal((repetitions, 1, n), 5), None)
    got = uncertainty.summarise_regression(draws, 0.9, ())
    covered = (np.abs(got.mean) < 1.984 * got.stderr).mean()  # Student's t with 99 degrees of freedom
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / repetitions)
