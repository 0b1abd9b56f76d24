"""Held-out figures against closed forms, and sampling that leaves no trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models import evaluation
from models.architecture import Mlp, RegressionHead
from models.data import split
from tests.models.examples import linear_data, module_of, rows_of, specs, two_clouds

finite = st.floats(-100, 100)
variances = st.floats(0.01, 100)


def log_density(y, mean, variance):
    """The normal log density, written out."""
    return -0.5 * (math.log(2 * math.pi * variance) + (y - mean) ** 2 / variance)


def test_members_take_turns():
    """Sample i of an ensemble is one of member i mod M's, also where they don't come out even."""
    spec = Mlp(inputs=2, hidden=(8,), dropout=0.5, head=RegressionHead())
    networks, rows = [module_of(spec, seed) for seed in range(3)], rows_of(4, 2)
    draws = evaluation.monte_carlo_of_all(networks, rows, 8)
    assert draws.shape == (8, 4, 1)
    for member, count in enumerate((3, 3, 2)):
        own = evaluation.monte_carlo(networks[member], rows, count, seed=member)
        np.testing.assert_array_equal(draws[member::3], own)


@given(finite, finite, variances)
def test_mixture_of_one(y, mean, variance):
    """A mixture of one component has the normal density."""
    found = evaluation.mixture_log_likelihood(np.array([[y]]), np.array([[[mean]]]), np.array([[[variance]]]))
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(log_density(y, mean, variance), rel=1e-9)


@given(finite, finite, variances, st.integers(1, 50))
def test_mixture_of_equals(y, mean, variance, components):
    """A mixture of equal components is any one of them."""
    means = np.full((components, 1), mean)
    found = evaluation.mixture_log_likelihood(np.array([y]), means, np.full((components, 1), variance))
    assert found[0] == pytest.approx(log_density(y, mean, variance), rel=1e-9)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_mixture_of_two(y, one, other):
    """The density of a mixture is the mean of the densities, not that of the mean."""
    means, ones = np.array([[one], [other]]), np.ones((2, 1))
    expected = math.log((math.exp(log_density(y, one, 1.0)) + math.exp(log_density(y, other, 1.0))) / 2)
    found = evaluation.mixture_log_likelihood(np.array([y]), means, ones)[0]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_far_out():
    """Far from every component the log density is large and negative, not minus infinity."""
    found = evaluation.mixture_log_likelihood(np.array([1e6]), np.zeros((3, 1)), np.ones((3, 1)))
    assert found[0] == pytest.approx(log_density(1e6, 0.0, 1.0))


@given(st.floats(-50, 50))
def test_variance_head(pre_activation):
    """A variance is softplus(s) + 1e-6, the same as the training loss takes it to be."""
    found = evaluation.variance_of(np.array([pre_activation]))[0]
    trained = functional.softplus(torch.tensor([pre_activation], dtype=torch.float64)).item() + 1e-6
    assert found == pytest.approx(trained, rel=1e-6)
    assert found >= 1e-6


def test_noise_variance_of_one_draw():
    """Under a single draw the likeliest noise variance is the mean squared error, output by output."""
    rng = np.random.Generator(np.random.PCG64(0))
    means = rng.standard_normal((1, 200, 2))
    targets = means[0] + rng.standard_normal((200, 2)) * [0.1, 30.0]
    expected = ((targets - means[0]) ** 2).mean(axis=0)
    np.testing.assert_allclose(evaluation.fit_noise_variance(targets, means), expected, rtol=1e-4)


def test_noise_variance_leaves_out_what_the_draws_explain():
    """Noise beside draws that scatter is what the scatter leaves: total variance = scatter + noise.

    With 5,000 rows the total's relative standard error is √(2 / 5000) = 2 %; allowed are four of them.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    draws = rng.standard_normal((100, 1, 1)).repeat(5000, axis=1)
    draws = (draws - draws.mean()) / draws.std()
    targets = math.sqrt(1.0 + 2.0) * rng.standard_normal((5000, 1))
    assert evaluation.fit_noise_variance(targets, draws)[0] == pytest.approx(2.0, abs=0.08 * 3.0)


def test_noise_variance_of_perfect_draws():
    """Where every draw meets every target, the noise is next to nothing and still a number."""
    targets = np.arange(5.0)[:, None]
    (found,) = evaluation.fit_noise_variance(targets, targets[None])
    assert 0 <= found < 1e-10


# Sampling


@settings(max_examples=50)
@given(specs())
def test_sampling_leaves_no_trace(spec):
    """Sampling leaves the network in eval mode, every tensor of it as it was, and the global generator untouched."""
    module, rows = module_of(spec).train(), rows_of(3, spec.inputs)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    before = torch.get_rng_state()
    draws = evaluation.monte_carlo(module, rows, samples=3)
    assert draws.shape == (3, 3, spec.head.width)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(part.training for part in module.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(rows, rows_of(3, spec.inputs))


@settings(max_examples=30)
@given(specs(), st.integers(0, 2**32), st.integers(0, 2**32))
def test_seed_decides(spec, seed, elsewhere):
    """The same seed gives the same draws, whatever the global generator has been through."""
    module, rows = module_of(spec), rows_of(3, spec.inputs)
    first = evaluation.monte_carlo(module, rows, samples=3, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(elsewhere)
        np.testing.assert_array_equal(evaluation.monte_carlo(module, rows, samples=3, seed=seed), first)


def test_draws_differ():
    """Samples differ from each other, and so do seeds."""
    module, rows = module_of(Mlp(inputs=3, hidden=(20,), activation="tanh", head=RegressionHead())), rows_of(2, 3)
    draws = evaluation.monte_carlo(module, rows, samples=50)
    assert len(np.unique(draws[:, 0, 0])) == 50
    assert not np.array_equal(draws, evaluation.monte_carlo(module, rows, samples=50, seed=1))


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_without_dropout_draws_are_the_full_network(norm):
    """With p = 0 every draw is the full network: a batch norm uses its running statistics, not the batch's."""
    module = module_of(Mlp(inputs=3, hidden=(4,), norm=norm, dropout=0.0, head=RegressionHead()))
    rows = rows_of(5, 3)
    for draw in evaluation.monte_carlo(module, rows, samples=3):
        np.testing.assert_array_equal(draw, evaluation.full_network(module, rows))


def test_mean_of_draws():
    """With dropout before the last layer alone the draws' mean tends to the full network: five standard errors."""
    module, rows = module_of(Mlp(inputs=3, hidden=(20,), head=RegressionHead())), rows_of(8, 3)
    draws = evaluation.monte_carlo(module, rows, samples=2000)
    error = np.abs(draws.mean(axis=0) - evaluation.full_network(module, rows))
    assert (error < 5 * draws.std(axis=0) / math.sqrt(2000)).all()


@given(specs())
def test_full_network_leaves_eval_mode(spec):
    """The full network is evaluated in eval mode, left in it, and answers each row as if it were alone."""
    module, rows = module_of(spec).train(), rows_of(3, spec.inputs)
    together = evaluation.full_network(module, rows)
    assert not any(part.training for part in module.modules())
    alone = np.concatenate([evaluation.full_network(module, row[None]) for row in rows])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


# Figures


def test_regression_figures_by_hand():
    """Figures of a regression, worked out by hand for two rows and two samples."""
    targets = np.array([[0.0], [2.0]])
    means = np.array([[[0.0], [1.0]], [[2.0], [3.0]]])  # their mean is 1 and 2
    figures = evaluation.regression_metrics(targets, np.array([[0.0], [4.0]]), means, np.ones_like(means))
    assert figures["rmse"] == pytest.approx(math.sqrt(1 / 2))
    assert figures["rmse_full_network"] == pytest.approx(math.sqrt(4 / 2))
    assert figures["mae"] == pytest.approx(1 / 2)
    assert figures["r2"] == pytest.approx(1 - 1 / 2)
    first = math.log((math.exp(log_density(0, 0, 1)) + math.exp(log_density(0, 2, 1))) / 2)
    second = math.log((math.exp(log_density(2, 1, 1)) + math.exp(log_density(2, 3, 1))) / 2)
    assert figures["log_likelihood"] == pytest.approx((first + second) / 2)
    assert figures["samples"] == 2


def test_constant_prediction_explains_nothing():
    """Predicting the targets' mean has an R² of 0."""
    targets = np.array([[1.0], [2.0], [6.0]])
    means = np.full((4, 3, 1), 3.0)
    figures = evaluation.regression_metrics(targets, means[0], means, np.ones_like(means))
    assert figures["r2"] == pytest.approx(0.0, abs=1e-12)


def test_outputs_are_compared_with_their_own_means():
    """Predicting each output's own mean explains nothing, however far apart the outputs lie."""
    targets = np.array([[1.0, 1001.0], [3.0, 1003.0]])
    means = np.broadcast_to(targets.mean(axis=0), (4, 2, 2))
    figures = evaluation.regression_metrics(targets, means[0], means, np.ones_like(means))
    assert figures["r2"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.9), (0.5, 0.58931)])
def test_coverage(scale, expected):
    """Intervals of 90 % hold 90 % of targets that are as noisy as is said, and 59 % where noise is twice as large.

    2 Φ(1.64485 / 2) − 1 = 0.58931. With 2,000 rows the share's standard error is at most √(¼ / 2000) = 1.1 %; the
    intervals' ends, drawn from 500 samples, add less than 0.3 %. Allowed are four standard errors and that.
    """
    rng = np.random.Generator(np.random.PCG64(1))
    targets, means = rng.standard_normal((2000, 1)), np.zeros((500, 2000, 1))
    figures = evaluation.regression_metrics(targets, means[0], means, np.full_like(means, scale**2))
    assert figures["coverage_90"] == pytest.approx(expected, abs=0.048)


def test_classification_figures_by_hand():
    """A committee averages probabilities, not logits: worked out by hand for one row and two samples."""
    draws = np.log(np.array([[[0.9, 0.1]], [[0.2, 0.8]]]))
    figures = evaluation.classification_metrics(np.array([0]), np.log(np.array([[0.25, 0.75]])), draws)
    assert figures["accuracy"] == 1.0
    assert figures["accuracy_full_network"] == 0.0
    assert figures["log_likelihood"] == pytest.approx(math.log(0.55))
    assert figures["log_likelihood_full_network"] == pytest.approx(math.log(0.25))
    assert figures["brier"] == pytest.approx(0.45**2 + 0.45**2)
    assert figures["samples"] == 2


@pytest.mark.parametrize("classes", [2, 7])
def test_figures_of_one_who_knows_nothing(classes):
    """Equal logits have log likelihood −ln n and Brier score 1 − 1/n."""
    targets = np.arange(classes)
    figures = evaluation.classification_metrics(targets, np.zeros((classes, classes)), np.zeros((3, classes, classes)))
    assert figures["log_likelihood"] == pytest.approx(-math.log(classes))
    assert figures["brier"] == pytest.approx(1 - 1 / classes)
    assert figures["accuracy"] == pytest.approx(1 / classes)


def test_figures_of_one_who_knows_all():
    """Certain and right everywhere is accuracy 1, log likelihood 0 and Brier score 0."""
    logits = 1000.0 * np.eye(4)
    figures = evaluation.classification_metrics(np.arange(4), logits, logits[None])
    assert (figures["accuracy"], figures["log_likelihood"], figures["brier"]) == (1.0, 0.0, 0.0)


def test_plain_methods_for_regression():
    """On targets without noise ridge regression is all but exact, which it can't be on rows it was not scored on."""
    data = linear_data(200, noise=0.0)
    scores = evaluation.baselines(data, split(200, 0))
    assert scores.keys() == {"ridge", "sklearn_mlp"}
    assert scores["ridge"]["rmse"] < 0.01


def test_plain_methods_for_classification():
    """On clouds that hardly overlap logistic regression is all but always right."""
    scores = evaluation.baselines(two_clouds(200), split(200, 0))
    assert scores.keys() == {"logistic_regression", "sklearn_mlp"}
    assert scores["logistic_regression"]["accuracy"] >= 0.95
