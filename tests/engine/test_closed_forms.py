"""Statistics against closed forms and brute force: what is told of draws is what theory says of their distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma, entr
from scipy.stats import binom, entropy, norm
from sklearn.metrics import log_loss
from torchmetrics.classification import MulticlassCalibrationError

from models.evaluation import classification_metrics, mixture_log_likelihood
from models.scores import expected_calibration_error, mixture_crps, reliability
from service.engine.uncertainty import (
    RegressionDraws,
    class_probabilities,
    summarise_classification,
    summarise_regression,
)

seeds = st.integers(0, 2**32 - 1)


def generator(seed: int) -> np.random.Generator:
    """Random numbers of a test."""
    return np.random.Generator(np.random.PCG64(seed))


@settings(max_examples=30)
@given(seed=seeds, classes=st.integers(2, 12), n=st.integers(2, 40))
def test_entropies_decompose(seed: int, classes: int, n: int) -> None:
    """Predictive = expected entropy + mutual information, which is the mean divergence from the mean (SciPy's)."""
    logits = generator(seed).normal(0, 3, (n, 4, classes)).astype(np.float32)
    p = class_probabilities(logits)
    told = summarise_classification(p, "mean")
    mean = p.mean(axis=-1)
    assert np.allclose(told.predictive_entropy, entr(mean).sum(axis=1))
    assert np.allclose(told.expected_entropy, entr(p).sum(axis=1).mean(axis=-1))
    divergences = np.stack([entropy(p[..., i], mean, axis=1) for i in range(n)])
    assert np.allclose(told.mutual_information, divergences.mean(axis=0), atol=1e-9)


def test_entropies_of_known_committees() -> None:
    """Who agrees has no mutual information; certain opposites have ln 2 of it, and no expected entropy."""
    agreed = np.tile(np.array([0.5, 0.25, 0.25])[None, :, None], (1, 1, 10))
    told = summarise_classification(agreed, "mean")
    assert told.predictive_entropy[0] == pytest.approx(1.5 * math.log(2))
    assert told.mutual_information[0] == pytest.approx(0.0, abs=1e-15)
    opposed = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    told = summarise_classification(opposed, "mean")
    assert (told.expected_entropy[0], told.mutual_information[0]) == (0.0, pytest.approx(math.log(2)))


def test_the_entropies_of_a_dirichlet() -> None:
    """Draws of a Dirichlet distribution have its mean, spread and expected entropy, in closed form."""
    alpha = np.array([0.7, 2.0, 4.0])
    total, n = alpha.sum(), 200_000
    told = summarise_classification(np.ascontiguousarray(generator(1).dirichlet(alpha, n).T[None]), "mean")
    mean = alpha / total
    assert np.allclose(told.probabilities[0], mean, atol=4 * np.sqrt(mean * (1 - mean) / (total + 1) / n).max())
    assert told.std is not None
    assert np.allclose(told.std[0], np.sqrt(mean * (1 - mean) / (total + 1)), rtol=0.01)
    expected = digamma(total + 1) - float(mean @ digamma(alpha + 1))
    assert told.expected_entropy[0] == pytest.approx(expected, abs=0.004)


@settings(max_examples=30)
@given(seed=seeds, n=st.integers(2, 60))
def test_variances_decompose(seed: int, n: int) -> None:
    """The variance of a mixture is the spread of its means and the mean of its variances (law of total variance)."""
    random = generator(seed)
    means, variances = random.normal(0, 5, (2, 1, n)), random.gamma(2.0, 1.0, (2, 1, n))
    told = summarise_regression(RegressionDraws(means, variances), 0.9, ())
    assert told.epistemic_std is not None
    assert told.aleatoric_std is not None
    assert told.std is not None
    mixture = (means**2 + variances).mean(axis=-1) - means.mean(axis=-1) ** 2
    assert np.allclose(told.epistemic_std**2 * (n - 1) / n + told.aleatoric_std**2, mixture)
    assert np.allclose(told.std**2, told.epistemic_std**2 + told.aleatoric_std**2)


@pytest.mark.parametrize("classification", [False, True])
def test_standard_errors_cover_at_their_nominal_rate(classification: bool) -> None:
    """Mean ± 1.96 stderr holds the true mean in about 95 % of 2,000 samplings of 60: within three standard errors."""
    rows, n = 2000, 60
    random = generator(5)
    if classification:
        chances = random.beta(2.0, 3.0, (rows, 1, n))
        told = summarise_classification(np.concatenate([chances, 1 - chances], axis=1), "mean")
        mean, stderr, truth = told.probabilities[:, 0], told.stderr, 2 / 5
        assert stderr is not None
        stderr = stderr[:, 0]
    else:
        summary = summarise_regression(RegressionDraws(random.gamma(4.0, 2.0, (rows, 1, n)), None), 0.9, ())
        assert summary.stderr is not None
        mean, stderr, truth = summary.mean[:, 0], summary.stderr[:, 0], 8.0
    covered = int((np.abs(mean - truth) <= norm.ppf(0.975) * stderr).sum())
    # Student's t at 59 degrees takes the nominal rate to 94.5 %, a skewed distribution a little further.
    low, high = binom.ppf([0.00135, 0.99865], rows, 0.945)
    assert low - 0.01 * rows <= covered <= high


@settings(max_examples=20)
@given(seed=seeds, n=st.integers(2, 30), level=st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_are_where_the_mixture_has_that_much_below(seed: int, n: int, level: float) -> None:
    """The mixture's distribution function, worked out by SciPy at each bound and quantile, is the probability."""
    random = generator(seed)
    means, variances = random.normal(0, 3, (1, 1, n)), random.gamma(2.0, 1.0, (1, 1, n))
    told = summarise_regression(RegressionDraws(means, variances), level, (0.01, 0.5, 0.8))
    bounds = {(1 - level) / 2: told.interval.lower, (1 + level) / 2: told.interval.upper, **told.quantiles}
    for probability, bound in bounds.items():
        assert bound is not None
        assert norm.cdf(bound[0, 0], means[0, 0], np.sqrt(variances[0, 0])).mean() == pytest.approx(
            probability, abs=1e-9
        )


@settings(max_examples=20)
@given(seed=seeds, n=st.integers(1, 20))
def test_the_log_likelihood_is_that_of_the_density(seed: int, n: int) -> None:
    """The log of the mean of densities, as an independent library has it, also far out, where densities underflow."""
    random = generator(seed)
    y, means, variances = random.normal(0, 3, 5), random.normal(0, 3, (n, 5)), random.gamma(2.0, 1.0, (n, 5))
    found = mixture_log_likelihood(y, means, variances)
    weights = np.full((5, n), 1 / n)
    expected = scoringrules.logs_mixnorm(y, means.T, np.sqrt(variances).T, weights)
    assert np.allclose(found, -expected)
    far = mixture_log_likelihood(np.array([1e4]), np.zeros((3, 1)), np.ones((3, 1)))
    assert far[0] == pytest.approx(norm.logpdf(1e4))


@settings(max_examples=20)
@given(seed=seeds, n=st.integers(1, 20))
def test_the_crps_is_the_independent_librarys(seed: int, n: int) -> None:
    """CRPS of mixtures of normals; of a single one its closed form."""
    random = generator(seed)
    y, means, variances = random.normal(0, 3, 6), random.normal(0, 3, (n, 6)), random.gamma(2.0, 1.0, (n, 6))
    found = mixture_crps(y, means, variances)
    assert np.allclose(found, scoringrules.crps_mixnorm(y, means.T, np.sqrt(variances).T), atol=1e-9)
    z = (y - means[0]) / np.sqrt(variances[0])
    alone = np.sqrt(variances[0]) * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi))
    assert np.allclose(mixture_crps(y, means[:1], variances[:1]), alone)


@settings(max_examples=20)
@given(seed=seeds, classes=st.integers(2, 6), rows=st.integers(1, 300), bins=st.sampled_from([5, 15]))
def test_the_calibration_error_is_the_independent_librarys(seed: int, classes: int, rows: int, bins: int) -> None:
    """ECE of the likeliest class over bins of equal width, as torchmetrics has it."""
    random = generator(seed)
    p = random.dirichlet(np.ones(classes), rows).astype(np.float32).astype(np.float64)
    truth = random.integers(0, classes, rows)
    metric = MulticlassCalibrationError(classes, n_bins=bins, norm="l1")
    expected = float(metric(torch.from_numpy(p), torch.from_numpy(truth)))
    assert expected_calibration_error(truth, p, bins) == pytest.approx(expected, abs=1e-6)
    assert reliability(truth, p, bins).rows.sum() == rows


def test_class_scores_are_scikit_learns() -> None:
    """The log-likelihood and the Brier score in a manifest are what scikit-learn says of the mean probabilities."""
    random = generator(9)
    draws, truth = random.normal(0, 2, (30, 50, 4)), random.integers(0, 4, 50)
    found = classification_metrics(truth, draws[0], draws)
    p = (np.exp(draws) / np.exp(draws).sum(axis=-1, keepdims=True)).mean(axis=0)
    assert found["log_likelihood"] == pytest.approx(-log_loss(truth, p, labels=range(4)))
    assert found["brier"] == pytest.approx(float(np.mean(np.sum((p - np.eye(4)[truth]) ** 2, axis=1))))
