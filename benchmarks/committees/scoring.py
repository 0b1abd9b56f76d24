"""What each way of asking is worth, on rows held out and on strangers. Knows nothing of pages or plots."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from benchmarks.committees.strangers import strangers
from benchmarks.committees.ways import WAYS, Asked, trained
from models.data import Dataset, Split, split
from models.evaluation import LEVEL, mixture_log_likelihood
from models.features import Float32, Float64
from models.manifest import Manifest
from models.recipes import recipes
from models.scores import expected_calibration_error, mixture_crps
from models.training import Recipe
from service.engine import uncertainty
from service.engine.mixtures import as_tail, tail_quantiles
from service.engine.reductions import centred
from service.engine.uncertainty import class_probabilities, regression_draws

# Name of a score → way → its value on each split.
Scores: TypeAlias = dict[str, dict[str, list[float]]]
SIGNALS = ("predictive entropy", "mutual information")


def _scores() -> Scores:
    return defaultdict(lambda: defaultdict(list))


@dataclass
class Found:
    """Scores of digits, of diabetes, and of strangers, by "kind: signal"; and for plots what was said of the digits.

    `said` are probabilities [rows of all splits, classes] by way, `truth` the classes [rows].
    """

    digits: Scores = field(default_factory=_scores)
    diabetes: Scores = field(default_factory=_scores)
    strangers: Scores = field(default_factory=_scores)
    said: dict[str, list[Float64]] = field(default_factory=lambda: defaultdict(list))
    truth: list[npt.NDArray[np.int64]] = field(default_factory=list)


def score(splits: int) -> Found:
    """Everything on so many splits; trains what has not been trained yet."""
    found, known = Found(), recipes()
    digits = known["digits-ensemble"]
    diabetes = replace(known["diabetes"], members=digits.members)
    for number in track(range(splits), "splits"):
        _classification(digits, 100 * number, found)
        _regression(diabetes, 100 * number, found)
    return found


def _parts(recipe: Recipe, seed: int, dataset: Dataset) -> Split:
    hyper = recipe.hyperparameters
    return split(len(dataset.inputs), seed, hyper.validation_fraction, hyper.test_fraction)


def _classification(recipe: Recipe, seed: int, found: Found) -> None:
    dataset = recipe.load()
    test = _parts(recipe, seed, dataset).test
    rows, truth = dataset.inputs[test], dataset.classes[test]
    found.truth.append(truth)
    asked = Asked(trained(recipe, seed))
    known: dict[str, dict[str, Float64]] = {}
    for way, outputs in asked.outputs(rows):
        draws = class_probabilities(outputs)
        p = draws.mean(axis=-1)
        found.said[way].append(p)
        known[way] = _signals(draws)
        for name, value in (
            ("error rate, %", 100 * float((p.argmax(axis=1) != truth).mean())),
            ("NLL", -float(np.log(p[np.arange(len(truth)), truth]).mean())),
            ("ECE, %", 100 * expected_calibration_error(truth, p)),
            ("Brier", float(((p - np.eye(p.shape[1])[truth]) ** 2).sum(axis=1).mean())),
        ):
            found.digits[name][way].append(value)
    for kind, images in strangers(rows):
        for way, outputs in asked.outputs(images):
            for signal, values in _signals(class_probabilities(outputs)).items():
                strange = np.repeat([0, 1], [len(rows), len(images)])
                area = roc_auc_score(strange, np.concatenate([known[way][signal], values]))
                found.strangers[f"{kind}: {signal}"][way].append(float(area))


def _signals(draws: Float64) -> dict[str, Float64]:
    """Entropies [rows] of draws [rows, classes, samples]; a single network can't disagree with itself."""
    told = uncertainty.summarise_classification(draws, "mean")
    signals = {SIGNALS[0]: told.predictive_entropy, SIGNALS[1]: told.mutual_information}
    return signals if draws.shape[-1] > 1 else {SIGNALS[0]: told.predictive_entropy}


def _regression(recipe: Recipe, seed: int, found: Found) -> None:
    dataset = recipe.load()
    test = _parts(recipe, seed, dataset).test
    truth = dataset.numbers[test, 0]
    model = trained(recipe, seed)
    for way, outputs in Asked(model).outputs(dataset.inputs[test]):
        means, variances, low, high = _normals(outputs, model.manifest)
        for name, value in (
            ("RMSE", float(np.sqrt(np.mean((truth - means.mean(axis=0)) ** 2)))),
            ("NLL", -float(mixture_log_likelihood(truth, means, variances).mean())),
            ("CRPS", float(mixture_crps(truth, means, variances).mean())),
            ("coverage of 90 %, %", 100 * float(((low <= truth) & (truth <= high)).mean())),
        ):
            found.diabetes[name][way].append(value)


def _normals(outputs: Float32, manifest: Manifest) -> tuple[Float64, Float64, Float64, Float64]:
    """Means and variances [samples, rows] of the only output, and the mixture's central 90 % [rows]."""
    (target,) = manifest.targets
    draws = regression_draws(outputs, np.array([target.mean]), np.array([target.scale]), True, None)  # noqa: FBT003
    assert draws.variances is not None, "there is a variance head. This is a bug."
    if draws.means.shape[-1] == 1:
        mean, deviation = draws.means[:, 0, 0], np.sqrt(draws.variances[:, 0, 0])
        low, high = (norm.ppf(edge, mean, deviation) for edge in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    else:
        mean, deviations = centred(draws.means)
        tails = tuple(map(as_tail, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)))
        low, high = tail_quantiles(mean, deviations, draws.variances, tails)[..., 0]
    return draws.means[:, 0].T, draws.variances[:, 0].T, low, high


def ways_of(scores: dict[str, list[float]]) -> list[str]:
    """The ways that a score is known for, in order."""
    return [way for way in WAYS if way in scores]
