"""Whether a version's probabilities hold on test rows: what the service would answer about them, beside what they are.

A regression's intervals should hold as many targets as their level says; a classification's answers should be right as
often as they are confident (DeGroot & Fienberg 1983, reliability diagrams; Guo et al. 2017). Knows nothing of where
this is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from scipy.stats import norm

from models.calibrating import Normals, Subject, in_raw_units, subject_of
from models.calibration import Conformal
from models.conformal import covered, regression_scores
from models.data import Dataset, Split
from models.evaluation import committee
from models.features import Float64
from models.mixed import standardise
from models.repository import Model
from models.training import Trained

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BINS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """What was claimed, what came true, and of how many test values that is the share."""

    claimed: float
    observed: float
    count: int

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"claimed": self.claimed, "observed": self.observed, "count": self.count}


def reliability(trained: Trained, dataset: Dataset, parts: Split) -> list[Point]:
    """The points of a version's reliability diagram, from the test rows.

    The committee is asked as the service asks it by default: method dropout, the version's number of samples, its
    temperature or noise; intervals are conformal where it has quantiles for that. Levels for which there were too few
    calibration rows have no point. A network without dropout is asked for its prediction.
    """
    manifest = trained.manifest
    model = Model(manifest, safetensors.torch.load(trained.weights))
    subject, calibration = subject_of(manifest, model.networks), manifest.calibration
    rows = torch.from_numpy(standardise(dataset.inputs[parts.test], manifest.inputs))
    draws = subject.draws(rows, manifest.default_samples, "dropout")
    if manifest.task == "classification":
        return _classification(committee(draws / (calibration.temperature or 1.0)), dataset.classes[parts.test])
    normals = in_raw_units(subject, draws, manifest.noise_variance, calibration.temperature)
    held = calibration.holding_for("dropout", manifest.default_samples, None)
    return _regression(subject, normals, held, dataset.numbers[parts.test])


def _regression(subject: Subject, normals: Normals, held: Conformal | None, targets: Float64) -> list[Point]:
    """How many targets [rows, outputs] the intervals hold: conformal ones, or else the mixture's."""
    if held is None:
        below = norm.cdf(targets, normals.means, np.sqrt(normals.variances)).mean(axis=0)
        inside = {level: np.abs(2.0 * below - 1.0) <= level for level in LEVELS}
    else:
        scores = regression_scores(targets, normals.means.mean(axis=0), normals.std, subject.units[1])
        inside = {level: covered(scores, held, level) for level in LEVELS if None not in held.at(level)}
    return [Point(level, float(hits.mean()), targets.size) for level, hits in inside.items()]


def _classification(probabilities: Float64, classes: Any) -> list[Point]:
    """Answers in bins of confidence: how often those of a bin were right."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        Point(float(confidence[bins == each].mean()), float(right[bins == each].mean()), int((bins == each).sum()))
        for each in range(BINS)
        if (bins == each).any()
    ]


def plot(points: list[Point], task: str, title: str, path: Path) -> None:
    """Draws the reliability diagram into a file (PNG, SVG or PDF, by its suffix). Needs matplotlib."""
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="dashed", label="perfectly calibrated")
    axes.plot([point.claimed for point in points], [point.observed for point in points], marker="o", label="test rows")
    across, up = ("interval level", "coverage") if task == "regression" else ("confidence", "accuracy")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=across, ylabel=up, title=title, aspect="equal")
    axes.legend(loc="upper left")
    figure.savefig(path)
