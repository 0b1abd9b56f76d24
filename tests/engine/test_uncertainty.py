"""Summaries against closed forms, brute force and SciPy: formulas are believed by test, not by docstring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy, norm

from service.engine import reductions, uncertainty
from service.engine.uncertainty import RegressionDraws, RegressionSummary

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


def test_certainty_has_an_entropy_of_plus_0() -> None:
    """Where every sample is sure of one class nothing is left to measure, and no number says −0."""
    draws = np.repeat([[[0.0], [1.0], [0.0]]], 5, axis=-1)
    got = uncertainty.summarise_classification(draws, "mean")
    for value in (got.predictive_entropy, got.expected_entropy, got.mutual_information, got.variation_ratio):
        assert value.tolist() == [0.0]
        assert not np.signbit(value).any()


def test_votes_and_mean_may_disagree() -> None:
    """Two lukewarm votes beat one ardent one by count, not by mean."""
    draws = np.array([[[0.45, 0.45, 0.95], [0.55, 0.55, 0.05]]])
    assert uncertainty.summarise_classification(draws, "mean").winners.tolist() == [0]
    assert uncertainty.summarise_classification(draws, "vote").winners.tolist() == [1]


def _leaves(summary: Any) -> dict[str, Any]:
    """Every array of a summary by name, those of its interval and quantiles too."""
    found = summary._asdict()
    if isinstance(summary, RegressionSummary):
        interval, quantiles = found.pop("interval"), found.pop("quantiles")
        found |= {
            "lower": interval.lower,
            "upper": interval.upper,
            "level": (interval.level, interval.kind),
            **quantiles,
        }
    return found


def _same_bits(one: Any, other: Any, rows: Any = slice(None)) -> bool:
    """Whether every array of a summary's rows is bit for bit that of the other."""
    mine, its = _leaves(one), _leaves(other)
    assert mine.keys() == its.keys()
    return all(
        value[rows].tobytes() == its[name].tobytes() if isinstance(value, np.ndarray) else value == its[name]
        for name, value in mine.items()
    )


def _regression_summary(means: np.ndarray, variances: np.ndarray | None) -> RegressionSummary:
    return uncertainty.summarise_regression(RegressionDraws(means, variances), 0.9, (0.5, 0.01))


@settings(max_examples=60)
@given(
    rows=st.integers(1, 64),
    outputs=st.integers(1, 4),
    n=st.integers(1, 300),
    noise=st.sampled_from(["none", "shared", "head"]),
    spread=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_a_rows_regression_summary_has_the_same_bits_in_any_company(
    rows: int, outputs: int, n: int, noise: str, spread: float, seed: int, data: st.DataObject
) -> None:
    """Alone, or with up to 64 others in any order, where one step finds its quantiles and where many do."""
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    means = spread * _normal((rows, outputs, n), seed) * np.exp(_normal((rows, 1, 1), seed + 1))
    samples = {"none": 0, "shared": 1, "head": n}[noise]
    variances = np.exp(_normal((rows, outputs, samples), seed + 2)) if samples else None
    whole = _regression_summary(means, variances)
    for some in (chosen, chosen[:1]):
        part = _regression_summary(means[some], None if variances is None else variances[some])
        assert _same_bits(whole, part, some)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 64),
    classes=st.integers(2, 12),
    n=st.integers(1, 300),
    sharp=st.floats(0, 60),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_a_rows_classification_summary_has_the_same_bits_in_any_company(
    rows: int, classes: int, n: int, sharp: float, seed: int, data: st.DataObject
) -> None:
    """Alone, or with up to 64 others in any order; and a draw's probabilities, among any other draws."""
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    first = data.draw(st.integers(0, n - 1))
    logits = (_normal((n, rows, classes), seed) * sharp).astype(np.float32)
    draws = uncertainty.class_probabilities(logits)
    assert np.array_equal(uncertainty.class_probabilities(logits[first:]), draws[..., first:])
    assert np.array_equal(uncertainty.class_probabilities(logits[first : first + 1]), draws[..., first : first + 1])
    whole = uncertainty.summarise_classification(draws, "vote")
    for some in (chosen, chosen[:1]):
        part = uncertainty.class_probabilities(logits[:, some])
        assert np.array_equal(part, draws[some])
        assert _same_bits(whole, uncertainty.summarise_classification(part, "vote"), some)


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    n=st.integers(1, 30),
    noisy=st.booleans(),
    seed=st.integers(0, 99),
)
def test_requests_summarised_together_are_cut_apart_again(sizes: list[int], n: int, noisy: bool, seed: int) -> None:
    """Rows of a summary are views with the bits of that request alone, and joined they are the whole again."""
    ends = np.cumsum(sizes).tolist()
    requests = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    means = _normal((ends[-1], 2, n), seed)
    variances = np.exp(_normal((ends[-1], 2, 1), seed)) if noisy else None
    regression = _regression_summary(means, variances)
    draws = uncertainty.class_probabilities(_normal((n, ends[-1], 3), seed).astype(np.float32))
    classification = uncertainty.summarise_classification(draws, "mean")
    for rows in requests:
        assert _same_bits(regression.some(rows), _regression_summary(means[rows], variances[rows] if noisy else None))
        assert np.shares_memory(regression.some(rows).mean, regression.mean)
        assert _same_bits(classification.some(rows), uncertainty.summarise_classification(draws[rows], "mean"))
        assert np.shares_memory(classification.some(rows).votes, classification.votes)
    assert _same_bits(uncertainty.joined([regression.some(rows) for rows in requests]), regression)
    assert _same_bits(uncertainty.joined([classification.some(rows) for rows in requests]), classification)


@settings(max_examples=60)
@given(
    n=st.integers(1, 300),
    seed=st.integers(0, 99),
    probabilities=st.lists(st.one_of(st.sampled_from([0.05, 0.5, 0.95]), st.floats(0, 1)), min_size=1, max_size=4),
)
def test_sample_quantiles_are_numpys_to_the_bit(n: int, seed: int, probabilities: list[float]) -> None:
    """Order statistics, interpolated with NumPy's formula, rounding and all."""
    values = _normal((3, 2, n), seed)
    found = reductions.quantiles_over_samples(values, probabilities)
    assert np.array_equal(found, np.quantile(values, probabilities, axis=-1))


@pytest.mark.parametrize("classes", [2, 7, 8, 9, 17, 100, 1000])
@pytest.mark.parametrize("samples", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("rows", [1, 3])
def test_classes_are_added_up_in_their_order(classes: int, samples: int, rows: int) -> None:
    """However many there are of each, a draw's probabilities are divided by the same sum."""
    logits = _normal((samples, rows, classes)).astype(np.float32)
    draws = uncertainty.class_probabilities(logits)
    for sample in range(samples):
        assert np.array_equal(uncertainty.class_probabilities(logits[sample : sample + 1])[..., 0], draws[..., sample])


def test_standard_errors_cover_at_their_nominal_rate() -> None:
    """The true mean lies within 1.96 standard errors in 95 % of 2,000 repetitions, to binomial error."""
    repetitions, n = 2000, 100
    draws = RegressionDraws(_normal((repetitions, 1, n), 5), None)
    got = uncertainty.summarise_regression(draws, 0.9, ())
    covered = (np.abs(got.mean) < 1.984 * got.stderr).mean()  # Student's t with 99 degrees of freedom
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / repetitions)
