"""How good a trained network is on rows it has not seen, beside what a plain method gets from the same rows.

Samples with PyTorch's own nn.Dropout: offline figures need no seed contract, only to be repeatable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import entr, log_softmax, logsumexp, softmax
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from models.architecture import VARIANCE_FLOOR
from models.data import Dataset, Split
from models.features import Float32, Float64
from models.manifest import Distribution, Quantity

SAMPLES = 200
LEVEL = 0.9
_MOST_TREE_CATEGORIES = 255


def variance_of(pre_activation: Float64) -> Float64:
    """A variance head's numbers → variances in standardised units: softplus(s) + 1e-6."""
    return np.asarray(np.logaddexp(0.0, pre_activation) + VARIANCE_FLOOR)


def full_network(network: nn.Module, rows: Tensor) -> Float64:
    """Eval-mode outputs [rows, width]; the network is left in eval mode."""
    network.eval()
    with torch.no_grad():
        return np.asarray(network(rows).double().numpy())


def monte_carlo(network: nn.Module, rows: Tensor, samples: int = SAMPLES, seed: int = 0) -> Float64:
    """Outputs of `samples` thinned networks [samples, rows, width]: dropout on, everything else in eval mode."""
    network.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        draws = np.stack([network(rows).double().numpy() for _ in range(samples)])
    network.eval()
    return draws


def full_networks(networks: Sequence[nn.Module], rows: Tensor) -> Float64:
    """The eval-mode outputs of each member of an ensemble [members, rows, width]."""
    return np.stack([full_network(network, rows) for network in networks])


def monte_carlo_of_all(networks: Sequence[nn.Module], rows: Tensor, samples: int = SAMPLES) -> Float64:
    """Outputs of thinned networks [samples, rows, width]; members take turns, as they do where they are served."""
    turns = [range(first, samples, len(networks)) for first in range(len(networks))]
    told = [
        monte_carlo(network, rows, len(turn), seed)
        for seed, (network, turn) in enumerate(zip(networks, turns, strict=True))
        if turn
    ]
    draws = np.empty((samples, *told[0].shape[1:]))
    for turn, own in zip(turns, told, strict=False):
        draws[turn.start :: turn.step] = own
    return draws


def mean_logits(logits: Float64) -> Float64:
    """Logits [rows, classes] of the mean of members' probabilities, from their logits [members, rows, classes]."""
    return logits[0] if len(logits) == 1 else np.asarray(np.log(softmax(logits, axis=-1).mean(axis=0)))


def mixture_log_likelihood(targets: Float64, means: Float64, variances: Float64) -> Float64:
    """The log density of targets [rows, …] under mixtures of n normals: logsumexp_i log N(y; μ_i, σ_i²) − ln n.

    means and variances are [n, rows, …].
    """
    densities = norm.logpdf(targets, means, np.sqrt(variances))
    return np.asarray(logsumexp(densities, axis=0) - np.log(len(means)))


def fit_noise_variance(targets: Float64, means: Float64) -> Float64:
    """The noise variance of each output that makes validation targets [rows, outputs] likeliest under the draws."""
    fitted = []
    for output in range(targets.shape[1]):
        y, mu = targets[:, output], means[:, :, output]
        guess = np.log(max(float(np.mean((y - mu.mean(axis=0)) ** 2)), 1e-12))

        def loss(log_variance: float, y: Float64 = y, mu: Float64 = mu) -> float:
            return -float(mixture_log_likelihood(y, mu, np.full_like(mu, np.exp(log_variance))).mean())

        best = minimize_scalar(loss, bounds=(guess - 10.0, guess + 2.0), method="bounded")
        fitted.append(float(np.exp(best.x)))
    return np.array(fitted)


def committee(draws: Float64) -> Float64:
    """Logits [samples, rows, classes] → the mean of their probabilities [rows, classes]."""
    return np.asarray(softmax(draws, axis=-1).mean(axis=0))


def fit_temperature(targets: Float64, means: Float64, variances: Float64, prior_rows: float = 0.0) -> float:
    """What to multiply a variance head's variances with, so that targets [rows, outputs] are likeliest.

    means and variances are [samples, rows, outputs]: it is the temperature that tempers each normal. For `prior_rows`
    see `_best_temperature`.
    """

    def loss(log_temperature: float) -> float:
        return -float(mixture_log_likelihood(targets, means, variances * np.exp(log_temperature)).mean())

    return _best_temperature(loss, prior_rows / len(targets))


def fit_class_temperature(targets: npt.NDArray[np.int64], draws: Float64, prior_rows: float = 0.0) -> float:
    """What to divide logits [samples, rows, classes] by, so that target classes [rows] are likeliest.

    Guo et al. 2017, for the mixture of a committee. For `prior_rows` see `_best_temperature`.
    """
    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        logs = log_softmax(draws / np.exp(log_temperature), axis=-1)[:, rows, targets]
        return -float((logsumexp(logs, axis=0) - np.log(len(draws))).mean())

    return _best_temperature(loss, prior_rows / len(targets))


def _best_temperature(loss: Callable[[float], float], prior: float) -> float:
    """The minimiser between 1/20 and 20 of a loss of its logarithm; rounded, for more digits than that are noise.

    The loss is a mean over rows; `prior` is how many rows the belief that the temperature is 1 weighs as much as, as a
    share of these. A row knows a normal's log variance to ± √2, so that the belief of n rows is (log T)² n / 4.
    """
    reach = math.log(20.0)
    best = minimize_scalar(
        lambda log_temperature: loss(log_temperature) + prior * log_temperature**2 / 4.0,
        bounds=(-reach, reach),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(f"{math.exp(best.x):.4g}")


def regression_metrics(targets: Float64, full: Float64, means: Float64, variances: Float64) -> dict[str, Any]:
    """Held-out figures in raw units: targets and full [rows, outputs], means and variances [samples, rows, outputs]."""
    mean = means.mean(axis=0)
    rng = np.random.Generator(np.random.PCG64(0))
    noisy = means + np.sqrt(variances) * rng.standard_normal(means.shape)
    low, high = np.quantile(noisy, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        "rmse": _root_mean_square(targets - mean),
        "rmse_full_network": _root_mean_square(targets - full),
        "mae": float(np.abs(targets - mean).mean()),
        "r2": 1.0 - float(((targets - mean) ** 2).sum() / ((targets - targets.mean(axis=0)) ** 2).sum()),
        "log_likelihood": float(mixture_log_likelihood(targets, means, variances).mean()),
        "coverage_90": float(((low <= targets) & (targets <= high)).mean()),
        "samples": len(means),
    }


def classification_metrics(targets: npt.NDArray[np.int64], full: Float64, draws: Float64) -> dict[str, Any]:
    """Held-out figures from logits: full [rows, classes], draws [samples, rows, classes]."""
    probabilities = committee(draws)
    rows = np.arange(len(targets))
    return {
        "accuracy": float((probabilities.argmax(axis=1) == targets).mean()),
        "accuracy_full_network": float((full.argmax(axis=1) == targets).mean()),
        "log_likelihood": float(np.log(probabilities[rows, targets]).mean()),
        "log_likelihood_full_network": float(np.log(softmax(full, axis=-1)[rows, targets]).mean()),
        "brier": float(((probabilities - np.eye(probabilities.shape[1])[targets]) ** 2).sum(axis=1).mean()),
        "samples": len(draws),
    }


def regression_uncertainty(means: Float64, variances: Float64) -> dict[Quantity, Float64]:
    """Total and epistemic standard deviation of each row and output, in the units of the draws.

    means and variances [samples, rows, outputs]; the same as the service's `std` and `epistemic_std`.
    """
    epistemic = means.var(axis=0, ddof=1)
    return {
        "predictive_std": np.sqrt(epistemic + variances.mean(axis=0)),
        "epistemic_std": np.sqrt(epistemic),
    }


def classification_uncertainty(draws: Float64) -> dict[Quantity, Float64]:
    """Predictive entropy and mutual information of each row in nats, from logits [samples, rows, classes]."""
    probabilities = softmax(draws, axis=-1)
    predictive = entr(probabilities.mean(axis=0)).sum(axis=-1)
    expected = entr(probabilities).sum(axis=-1).mean(axis=0)
    return {"predictive_entropy": predictive, "mutual_information": np.maximum(predictive - expected, 0.0)}


def distribution(values: Float64) -> Distribution:
    """How values are spread over their own deciles; where many are equal there are fewer edges."""
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10))
    counts = np.bincount(np.searchsorted(edges, values.ravel()), minlength=len(edges) + 1)
    return Distribution(edges=tuple(edges.tolist()), shares=tuple((counts / values.size).tolist()))


def baselines(dataset: Dataset, parts: Split, rows: Float32 | None = None) -> dict[str, dict[str, float]]:
    """scikit-learn's linear method and its MLP, fitted on the training rows, scored on the test rows.

    Where columns are of several kinds they get what the network sees, `rows` [rows, width], and gradient-boosted trees,
    which know what to do with categories and missing values, are a third. Images have nearest neighbours instead.
    """
    if dataset.image is not None:
        return {"nearest_neighbours": {"accuracy": _nearest_neighbours(dataset, parts)}}
    inputs = dataset.inputs if dataset.kinds is None or rows is None else rows.astype(np.float64)
    x, y = inputs[parts.train], dataset.targets[parts.train]
    x_test, y_test = inputs[parts.test], dataset.targets[parts.test]
    if dataset.classification:
        classifiers = {
            "logistic_regression": LogisticRegression(max_iter=5000),
            # Large tables would take it many minutes to the last epoch.
            "sklearn_mlp": MLPClassifier(max_iter=2000, early_stopping=dataset.kinds is not None, random_state=0),
        }
        scores = {
            name: {"accuracy": float(make_pipeline(StandardScaler(), method).fit(x, y).score(x_test, y_test))}
            for name, method in classifiers.items()
        }
        if dataset.kinds is not None:
            trees = HistGradientBoostingClassifier(random_state=0, categorical_features=_categories(dataset))
            trees.fit(dataset.inputs[parts.train], y)
            accuracy = float(trees.score(dataset.inputs[parts.test], y_test))
            scores["hist_gradient_boosting"] = {"accuracy": accuracy}
        return scores
    regressors = {
        "ridge": RidgeCV(alphas=np.logspace(-3, 3, 25)),
        "sklearn_mlp": MLPRegressor(max_iter=5000, early_stopping=True, random_state=0),
    }
    scores = {}
    for name, method in regressors.items():
        predicted = make_pipeline(StandardScaler(), method).fit(x, y.squeeze()).predict(x_test)
        scores[name] = {"rmse": _root_mean_square(y_test - predicted.reshape(y_test.shape))}
    if dataset.kinds is not None:
        trees = HistGradientBoostingRegressor(random_state=0, categorical_features=_categories(dataset))
        seen, asked = dataset.inputs[parts.train], dataset.inputs[parts.test]
        predicted = np.stack([trees.fit(seen, y[:, i]).predict(asked) for i in range(y.shape[1])], axis=1)
        scores["hist_gradient_boosting"] = {"rmse": _root_mean_square(y_test - predicted)}
    return scores


def _nearest_neighbours(dataset: Dataset, parts: Split) -> float:
    """The accuracy of the vote of the three training images whose pixels are nearest."""
    voters = KNeighborsClassifier(n_neighbors=3).fit(dataset.inputs[parts.train], dataset.targets[parts.train])
    return float(voters.score(dataset.inputs[parts.test], dataset.targets[parts.test]))


def _categories(dataset: Dataset) -> list[bool]:
    """Which columns are categories that trees can split on: they take up to 255."""
    return [not isinstance(kind, str) and len(kind) < _MOST_TREE_CATEGORIES for kind in dataset.kinds or ()]


def _root_mean_square(errors: Float64) -> float:
    return float(np.sqrt(np.mean(errors**2)))
