"""How far a trained network's probabilities can be believed, on held-out rows: levels against what came true.

A regression's central intervals should hold as many targets as their level says; a classification's confident answers
should be right as often as they are confident (DeGroot & Fienberg 1983, reliability diagrams; Guo et al. 2017).
Knows nothing of where this is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from scipy.special import softmax

from models import evaluation
from models.architecture import RegressionHead
from models.data import Dataset, Split
from models.features import Float64
from models.mixed import standardise
from models.networks import build
from models.training import Trained

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BINS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """What was claimed, what came true, and of how many held-out values that is the share."""

    claimed: float
    observed: float
    count: int

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"claimed": self.claimed, "observed": self.observed, "count": self.count}


def reliability(trained: Trained, dataset: Dataset, parts: Split) -> list[Point]:
    """The points of the reliability diagram of a version, from the test rows."""
    manifest = trained.manifest
    network = build(manifest.architecture)
    network.load_state_dict(safetensors.torch.load(trained.weights))
    rows = torch.from_numpy(standardise(dataset.inputs[parts.test], manifest.inputs))
    draws = evaluation.monte_carlo(network, rows)
    head = manifest.architecture.head
    if not isinstance(head, RegressionHead):
        return _classification(softmax(draws, axis=-1).mean(axis=0), dataset.classes[parts.test])
    mean, scale = (np.array([getattr(target, part) for target in manifest.targets]) for part in ("mean", "scale"))
    means = draws[..., : head.outputs] * scale + mean
    if head.variance:
        deviations = np.sqrt(evaluation.variance_of(draws[..., head.outputs :])) * scale
    else:
        deviations = np.broadcast_to(np.sqrt(manifest.noise_variance or 0.0), means.shape)
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(means.shape)
    return _regression(means + deviations * noise, dataset.numbers[parts.test])


def _regression(draws: Float64, targets: Float64) -> list[Point]:
    """Draws [samples, rows, outputs] of what may be observed, beside what was."""
    points = []
    for level in LEVELS:
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        points.append(Point(level, float(((low <= targets) & (targets <= high)).mean()), targets.size))
    return points


def _classification(probabilities: Float64, classes: Any) -> list[Point]:
    """Answers in bins of confidence: how often those of a bin were right."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        Point(float(confidence[bins == each].mean()), float(right[bins == each].mean()), int((bins == each).sum()))
        for each in range(BINS)
        if (bins == each).any()
    ]


def plot(points: list[Point], title: str, path: Path) -> None:
    """Draws the reliability diagram into a file (PNG, SVG or PDF, by its suffix). Needs matplotlib."""
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="dashed", label="as claimed")
    axes.plot([point.claimed for point in points], [point.observed for point in points], marker="o", label="observed")
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="claimed", ylabel="came true on held-out rows", title=title, aspect="equal"
    )
    axes.legend(loc="upper left")
    figure.savefig(path)
