"""The one training loop: a recipe in, a sealed version out. Same recipe, data and seed → same weights digest.

Randomness is seeded from end to end and kept to one thread, so that the number of cores does not change the bits.
Knows nothing of where versions are kept.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import evaluation
from models.architecture import VARIANCE_FLOOR, Architecture, RegressionHead
from models.calibrating import Subject, fit, measure
from models.data import Dataset, Split, describe_inputs, describe_outputs, split
from models.features import column_statistics
from models.manifest import Manifest, Member, seal
from models.members import joined
from models.mixed import standardise
from models.networks import build
from models.repository import serialise


class Diverged(Exception):
    """No epoch had a finite validation loss, so that there are no weights worth keeping."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """How to train; part of the recipe, and recorded in the manifest."""

    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 64
    max_epochs: int = 500
    patience: int = 40
    validation_fraction: float = 0.2
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError("batch_size must be 2 or more: batches of one row are left out")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a set of weights: the data, the network, and how it is trained.

    With `members` it is an ensemble: so many networks, whose seeds follow one another, on the same split; with
    `bootstrap` each has its own resample of the training rows (bagging: Breiman 1996). `augment` gives other versions
    of a batch of standardised rows that mean the same, each time it is seen. The temperature is fitted to the
    validation rows, and where these may be few, `prior_rows` more that are content with a temperature of 1.
    """

    name: str
    description: str
    load: Callable[[], Dataset]
    architecture: Architecture
    hyperparameters: Hyperparameters = Hyperparameters()
    members: int = 0
    bootstrap: bool = False
    augment: Callable[[Tensor], Tensor] = lambda rows: rows
    prior_rows: float = 0.0

    def __post_init__(self) -> None:
        if self.members == 1 or self.members < 0:
            raise ValueError("an ensemble has two or more members; a single network has members 0")
        if self.bootstrap and not self.members:
            raise ValueError("bootstrap is for ensembles")

    def split(self, rows: int) -> Split:
        """How so many rows are divided."""
        hyper = self.hyperparameters
        return split(rows, hyper.seed, hyper.validation_fraction, hyper.test_fraction)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a progress display needs to know after each epoch."""

    number: int
    of: int
    validation_loss: float
    best_loss: float
    patience_left: int
    member: int = 1


@dataclass(frozen=True, slots=True)
class Trained:
    """A version ready to be published."""

    manifest: Manifest
    weights: bytes


def train(recipe: Recipe, version: str, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Trained:
    """Trains, measures and seals one version of a recipe. Raises Diverged where nothing could be learnt."""
    dataset = recipe.load()
    parts = recipe.split(len(dataset.inputs))
    inputs, outputs = describe_inputs(dataset, parts.train), describe_outputs(dataset, parts.train)
    rows = torch.from_numpy(standardise(dataset.inputs, inputs))
    targets = _standard_targets(dataset, parts)
    networks, epochs = _fit_all(recipe, rows, targets, parts, on_epoch)
    with _reproducible(recipe.hyperparameters.seed):
        subject = Subject(networks, recipe.architecture, outputs)
        seen = parts.validation
        fitted = fit(subject, rows[seen], dataset.targets[seen], prior_rows=recipe.prior_rows)
        figures = measure(subject, fitted, rows[parts.test], dataset.targets[parts.test])
    # A regression's members count alike.
    members = fitted.members or (Member(weight=1 / max(1, recipe.members)),) * recipe.members
    states = [network.state_dict() for network in networks]
    weights = serialise(joined(states) if members else states[0])
    manifest = seal(
        name=recipe.name,
        version=version,
        task=recipe.architecture.head.kind,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        description=recipe.description,
        inputs=inputs,
        outputs=outputs,
        architecture=recipe.architecture,
        members=members,
        noise_variance=fitted.noise_variance,
        metrics={"test": figures, "baseline": evaluation.baselines(dataset, parts, rows.numpy())},
        calibration=fitted.calibration,
        provenance={
            "recipe": recipe.name,
            "data": dataset.source,
            "rows": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
            "hyperparameters": asdict(recipe.hyperparameters),
            "epochs": epochs if members else epochs[0],
            **({"members": recipe.members, "bootstrap": recipe.bootstrap} if members else {}),
            **({"prior_rows": recipe.prior_rows} if recipe.prior_rows else {}),
            "torch": torch.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        },
        uncertainty=fitted.uncertainty,
    )
    return Trained(manifest, weights)


def best_loss(recipe: Recipe, on_epoch: Callable[[Epoch], None] = lambda _: None) -> float:
    """The lowest validation loss that a recipe comes to; nothing is measured or kept. Raises Diverged."""
    dataset, hyper, lowest = recipe.load(), recipe.hyperparameters, math.inf
    parts = split(len(dataset.inputs), hyper.seed, hyper.validation_fraction, hyper.test_fraction)
    rows = torch.from_numpy(standardise(dataset.inputs, describe_inputs(dataset, parts.train)))

    def watch(epoch: Epoch) -> None:
        nonlocal lowest
        lowest = epoch.best_loss
        on_epoch(epoch)

    with _reproducible(hyper.seed):
        _fit(recipe, rows, _standard_targets(dataset, parts), parts, watch)
    return lowest


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels, and a global generator that is put back afterwards (nn.Dropout has no own)."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(mode=deterministic, warn_only=warn_only)
        torch.set_num_threads(threads)


def _standard_targets(dataset: Dataset, parts: Split) -> Tensor:
    if dataset.classification:
        return torch.from_numpy(dataset.targets)
    mean, scale = column_statistics(dataset.numbers[parts.train])
    return torch.from_numpy(((dataset.targets - mean) / scale).astype(np.float32))


def _fit_all(
    recipe: Recipe, rows: Tensor, targets: Tensor, parts: Split, on_epoch: Callable[[Epoch], None]
) -> tuple[list[nn.Sequential], list[int]]:
    """The network of a recipe, or its members one after the other; and the epochs of the best weights."""
    networks, epochs = [], []
    for member in range(max(1, recipe.members)):
        seed = recipe.hyperparameters.seed + member
        own = replace(recipe, hyperparameters=replace(recipe.hyperparameters, seed=seed))
        seen = parts
        if recipe.bootstrap:
            drawn = np.random.Generator(np.random.PCG64([seed, 1])).choice(parts.train, len(parts.train))
            seen = replace(parts, train=drawn)
        with _reproducible(seed):
            network, epoch = _fit(own, rows, targets, seen, partial(_report, on_epoch, member + 1))
        networks.append(network)
        epochs.append(epoch)
    return networks, epochs


def _report(on_epoch: Callable[[Epoch], None], member: int, told: Epoch) -> None:
    on_epoch(replace(told, member=member))


def _fit(
    recipe: Recipe, rows: Tensor, targets: Tensor, parts: Split, on_epoch: Callable[[Epoch], None]
) -> tuple[nn.Sequential, int]:
    """Trains until the validation loss has not improved for `patience` epochs; the best weights and their epoch."""
    hyper = recipe.hyperparameters
    # In place is for inference: the backward pass needs the activations that it would overwrite.
    network = build(recipe.architecture.model_copy(update={"inplace": False}))
    # Weight decay acts on weight matrices only: shrinking biases and norms towards zero regularises nothing.
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": hyper.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=hyper.learning_rate,
    )
    loss_of = _loss(recipe.architecture)
    shuffles = np.random.Generator(np.random.PCG64(hyper.seed))
    best, best_epoch, best_state = math.inf, 0, copy.deepcopy(network.state_dict())
    for epoch in range(1, hyper.max_epochs + 1):
        network.train()
        for batch in _batches(shuffles.permutation(parts.train), hyper.batch_size):
            optimiser.zero_grad()
            loss_of(network(recipe.augment(rows[batch])), targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        network.eval()
        with torch.no_grad():
            loss = float(loss_of(network(rows[parts.validation]), targets[parts.validation]))
        if loss < best:
            best, best_epoch, best_state = loss, epoch, copy.deepcopy(network.state_dict())
        patience_left = hyper.patience - (epoch - best_epoch)
        on_epoch(Epoch(epoch, hyper.max_epochs, loss, best, patience_left))
        if patience_left <= 0:
            break
    if not best_epoch:
        raise Diverged(f"{recipe.name}: no epoch had a finite validation loss; a lower learning rate may help")
    network.load_state_dict(best_state)
    return network, best_epoch


def _batches(order: Any, size: int) -> Iterator[Any]:
    """Batches of `size`; a last batch of one row is dropped, for batch normalisation can't learn from it."""
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        if len(batch) > 1:
            yield batch


def _loss(architecture: Architecture) -> Callable[[Tensor, Tensor], Tensor]:
    head = architecture.head
    if not isinstance(head, RegressionHead):
        return functional.cross_entropy
    if not head.variance:
        return functional.mse_loss

    def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        mean, pre_activation = outputs.chunk(2, dim=1)
        variance = functional.softplus(pre_activation) + VARIANCE_FLOOR
        return functional.gaussian_nll_loss(mean, targets, variance, eps=VARIANCE_FLOOR)

    return negative_log_likelihood
