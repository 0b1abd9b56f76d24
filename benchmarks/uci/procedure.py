"""From the training rows of one split to a version: the same procedure for every table, with nothing set by hand.

1. Search: sixteen candidates learn from the first 80 % of the training rows. On the way the better half goes on, twice
   (successive halving, Jamieson & Talwalkar 2016); the committee that finds the other 20 % likeliest, whenever it did,
   decides activation, p, weight decay and the number of steps.
2. Refit: an ensemble with these learns from all training rows; so do five more, each from four fifths of them.
3. Calibration: what the five say of the rows they have not seen fits the temperature and the conformal quantiles.

A single network is sure of itself where others that learnt the same rows differ, and its likelihood pays for that: on
the worst of five splits of concrete a network had −3.36, four members −3.21.

Sees a `Lesson`, so no test row; knows nothing of files or the service.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.uci.stack import Plan, Settings, Stack
from benchmarks.uci.tables import Lesson
from models import evaluation
from models.architecture import Mlp, RegressionHead
from models.calibration import Calibration
from models.conformal import conformal, regression_scores
from models.features import Feature, Float64, Target, column_statistics
from models.layers import ActivationName
from models.manifest import Manifest, Member, seal
from models.members import joined
from models.repository import serialise

ACTIVATIONS: tuple[ActivationName, ...] = ("relu", "silu")
PROBABILITIES = (0.002, 0.01, 0.05, 0.1)
DECAYS = (0.0, 0.1)
STEPS = 6000
RUNGS = (0.2, 0.4)  # of the steps: where the better half goes on
LOOKS = 20  # at the validation rows, while all steps are taken
FOLDS = 5
MEMBERS = 4  # of an ensemble
SAMPLES = 100  # of a committee, in calibration and when it is asked: members take turns at them
_FEW_SAMPLES = 16  # of a committee that is looked at
_MOST_ROWS = 500  # that are looked at while candidates learn
_TEMPERATURES = torch.tensor([0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 9.0, 16.0])


class Chosen(NamedTuple):
    """What the search decides, and the mean log-likelihood of a validation row that decided, in standard units."""

    activation: ActivationName
    p: float
    decay: float
    steps: int
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class Made:
    """A version to publish, and how it was found."""

    manifest: Manifest
    weights: bytes
    chosen: Chosen


class _Standard(NamedTuple):
    """Rows [rows, inputs] and targets [rows, 1] in standard units, and the statistics that made them."""

    rows: Tensor
    targets: Tensor
    inputs: tuple[Float64, Float64]
    target: tuple[Float64, Float64]


def learn(lesson: Lesson, name: str, seed: int, steps: int = STEPS) -> Made:
    """The version that the training rows of a split give, named `name`. Takes one thread."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    chosen = search(lesson, generator, steps)
    data = _standard(lesson, len(lesson.inputs))
    stack, folds = _refit(lesson, data, chosen, generator)
    means, variances = _out_of_fold(stack, data, folds)
    targets = data.targets.double().numpy()
    temperature = evaluation.fit_temperature(targets, means, variances)
    variances *= temperature
    std = np.sqrt(means.var(axis=0, ddof=1) + variances.mean(axis=0))
    dropout = (chosen.p, chosen.p)
    scores = regression_scores(targets, means.mean(axis=0), std, np.ones(1))
    weights = serialise(joined([stack.state_dict(place) for place in range(MEMBERS)]))
    manifest = seal(
        name=name,
        version="1",
        task="regression",
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        description="Made by the UCI benchmark.",
        inputs=_features(lesson, *data.inputs),
        outputs=(Target(name="y", mean=float(data.target[0][0]), scale=float(data.target[1][0])),),
        architecture=Mlp(
            inputs=lesson.inputs.shape[1],
            hidden=_hidden(len(lesson.inputs)),
            activation=chosen.activation,
            dropout=dropout,
            head=RegressionHead(variance=True),
        ),
        members=(Member(weight=1 / MEMBERS),) * MEMBERS,
        default_samples=SAMPLES,
        calibration=Calibration(
            temperature=temperature, conformal_ensemble=conformal(scores, dropout, SAMPLES, "ensemble")
        ),
        provenance={"chosen": chosen._asdict(), "seed": seed, "rows": len(lesson.inputs), "torch": torch.__version__},
    )
    return Made(manifest, weights, chosen)


def search(lesson: Lesson, generator: torch.Generator, steps: int = STEPS) -> Chosen:
    """The best of all candidates by the mean log-likelihood of validation rows under their committees."""
    count = len(lesson.inputs)
    learnt = int(0.8 * count)
    data = _standard(lesson, learnt)
    seen = slice(learnt, learnt + _MOST_ROWS)  # the splits are random permutations, so these are random rows
    grid = itertools.product(range(len(ACTIVATIONS)), PROBABILITIES, DECAYS)
    silu, p, decay = torch.tensor(list(grid)).T
    stack = Stack(_plan(lesson, steps), Settings(p, decay, silu > 0), generator)
    look = max(1, steps // LOOKS)
    rungs = [round(steps * rung / look) * look for rung in RUNGS]
    found: list[Chosen] = []
    shown = torch.empty(0, len(stack))  # at each look
    for taken in range(look, steps + 1, look):
        stack.advance(data.rows, data.targets, torch.arange(learnt).expand(len(stack), -1), look)
        shown = torch.cat([shown, _log_likelihoods(stack, data.rows[seen], data.targets[seen])[None]])
        standing = shown[-3:].mean(dim=0)  # a single look is noisy
        found += [_chosen(stack.settings, place, taken, mean) for place, mean in enumerate(standing.tolist())]
        if taken in rungs:
            better = shown.max(dim=0).values.argsort(descending=True)[: len(stack) // 2]
            stack.keep(better)
            shown = shown[:, better]
    return max(found, key=lambda one: one.log_likelihood)


def _chosen(settings: Settings, place: int, steps: int, log_likelihood: float) -> Chosen:
    p, decay = (round(float(each[place]), 6) for each in (settings.p, settings.decay))
    return Chosen(ACTIVATIONS[int(settings.silu[place])], p, decay, steps, log_likelihood)


def _refit(lesson: Lesson, data: _Standard, chosen: Chosen, generator: torch.Generator) -> tuple[Stack, Tensor]:
    """An ensemble for all rows and one for each fold's complement, members side by side; the fold of each row."""
    count = len(data.rows)
    folds = torch.randperm(count, generator=generator) % FOLDS
    own = [torch.arange(count), *(torch.nonzero(folds != fold).ravel() for fold in range(FOLDS))]
    padded = torch.nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=-1).repeat_interleave(MEMBERS, dim=0)
    plan = _plan(lesson, chosen.steps)
    alike = torch.ones(len(padded))
    settings = Settings(alike * chosen.p, alike * chosen.decay, (alike * ACTIVATIONS.index(chosen.activation)) > 0)
    stack = Stack(plan, settings, generator)
    stack.advance(data.rows, data.targets, padded, chosen.steps)
    return stack, folds


def _out_of_fold(stack: Stack, data: _Standard, folds: Tensor) -> tuple[Float64, Float64]:
    """Means and variances [samples, rows, 1] of each row by the ensemble that has not seen it, its members in turns."""
    count = len(data.rows)
    means, variances = np.empty((SAMPLES, count, 1)), np.empty((SAMPLES, count, 1))
    of_fold = [torch.nonzero(folds == fold).ravel() for fold in range(FOLDS)]
    held_out = torch.nn.utils.rnn.pad_sequence([of_fold[0], *of_fold], batch_first=True)
    drawn = stack.draws(data.rows[held_out].repeat_interleave(MEMBERS, dim=0), SAMPLES // MEMBERS)
    for kept, parts in zip((means, variances), drawn, strict=True):
        # [turns, ensembles, members, rows]: sample i is member i mod M's, in its turn.
        by_ensemble = parts.view(SAMPLES // MEMBERS, 1 + FOLDS, MEMBERS, -1)
        for fold, rows in enumerate(of_fold):
            kept[:, rows, 0] = by_ensemble[:, fold + 1, :, : len(rows)].flatten(0, 1).numpy()
    return means, variances


def _log_likelihoods(stack: Stack, rows: Tensor, targets: Tensor) -> Tensor:
    """The mean log-likelihood of rows under each network's committee at its best temperature: [networks]."""
    means, variances = stack.draws(rows.expand(len(stack), -1, -1), _FEW_SAMPLES)
    errors = (targets.double().ravel() - means).square()
    of_each = []
    for temperature in _TEMPERATURES:
        tempered = variances * temperature
        terms = -0.5 * (errors / tempered + tempered.log() + math.log(2 * math.pi))
        of_each.append((terms.logsumexp(dim=0) - math.log(_FEW_SAMPLES)).mean(dim=-1))
    # A network that has diverged is as bad as can be.
    return torch.stack(of_each).nan_to_num(nan=-math.inf).max(dim=0).values


def _standard(lesson: Lesson, count: int) -> _Standard:
    """All rows in units in which the first `count` have mean 0 and standard deviation 1."""
    inputs, target = column_statistics(lesson.inputs[:count]), column_statistics(lesson.targets[:count])
    scaled: list[Any] = [
        torch.from_numpy(((values - mean) / scale).astype(np.float32))
        for values, (mean, scale) in ((lesson.inputs, inputs), (lesson.targets, target))
    ]
    return _Standard(scaled[0], scaled[1], inputs, target)


def _features(lesson: Lesson, mean: Float64, scale: Float64) -> tuple[Feature, ...]:
    low, high = lesson.inputs.min(axis=0).tolist(), lesson.inputs.max(axis=0).tolist()
    return tuple(
        Feature(name=f"x{i}", range=(low[i], high[i]), mean=float(mean[i]), scale=float(scale[i]))
        for i in range(lesson.inputs.shape[1])
    )


def _plan(lesson: Lesson, steps: int) -> Plan:
    count, inputs = lesson.inputs.shape
    return Plan((inputs, *_hidden(count), 2), steps, _batch(count))


def _hidden(rows: int) -> tuple[int, int]:
    """The tables' 50 units for a few thousand rows, 100 for more; twice."""
    return (50, 50) if rows < 4000 else (100, 100)


def _batch(rows: int) -> int:
    """The power of two about a hundredth of the rows, from 32 to 256."""
    return min(256, max(32, 1 << max(0, round(math.log2(rows / 100)))))
