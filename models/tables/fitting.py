"""A prepared table → a recipe, and perhaps the best of many within a time budget.

What a recipe comes to is judged by its loss on validation rows alone. Knows nothing of files or of how it is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from models.architecture import Architecture, ClassificationHead, Mlp, RegressionHead
from models.calibrating import PRIOR_ROWS
from models.data import Dataset, Split, describe_inputs, split
from models.features import Category, Input
from models.tables.errors import UnusableTable
from models.training import Diverged, Epoch, Hyperparameters, Recipe, best_loss

WIDEST = 65536
# How often an input that may be missing or unknown is hidden in training, so that its absence is learnt too.
HIDDEN = 0.01
HYPERPARAMETERS = Hyperparameters(learning_rate=1e-3, weight_decay=0.1, batch_size=64, max_epochs=300, patience=25)
HIDDEN_WIDTHS = (128, 128)
P = 0.1

# What a search chooses from.
_WIDTHS: tuple[tuple[int, ...], ...] = ((64,), (128,), (256,), (64, 64), (128, 128), (256, 256), (128, 128, 128))
_PS = (0.05, 0.1, 0.2, 0.4)
_WEIGHT_DECAYS = (0.01, 0.1, 1.0)
_LEARNING_RATES = (5e-4, 1e-3, 2e-3)


@dataclass(frozen=True, slots=True)
class Tried:
    """One step of a search: what was tried, what it came to (None: nothing), and whether it is the best so far."""

    number: int
    recipe: Recipe
    loss: float | None
    best: bool


def recipe_of(
    name: str,
    description: str,
    dataset: Dataset,
    *,
    hidden: Sequence[int] = HIDDEN_WIDTHS,
    p: float = P,
    hyperparameters: Hyperparameters = HYPERPARAMETERS,
) -> Recipe:
    """How a table is learnt: an MLP, for numbers with a variance head. Raises UnusableTable."""
    inputs = describe_inputs(dataset, parts_of(dataset, hyperparameters).train)
    width = sum(each.width for each in inputs)
    if width > WIDEST:
        raise UnusableTable(f"{width:,} numbers a row, with one for each category; at most {WIDEST:,}: use --drop")
    outputs = len(dataset.output_names)
    head = (
        ClassificationHead(classes=outputs)
        if dataset.classification
        else RegressionHead(outputs=outputs, variance=True)
    )
    architecture: Architecture = Mlp(
        inputs=width, hidden=tuple(hidden), activation="silu", dropout=(p,) * len(hidden), head=head
    )
    return Recipe(
        name,
        description,
        lambda: dataset,
        architecture,
        hyperparameters,
        augment=hiding(inputs),
        prior_rows=PRIOR_ROWS,
    )


def parts_of(dataset: Dataset, hyperparameters: Hyperparameters) -> Split:
    """How the training procedure divides the rows."""
    fractions = hyperparameters.validation_fraction, hyperparameters.test_fraction
    return split(len(dataset.inputs), hyperparameters.seed, *fractions)


def hiding(inputs: Sequence[Input]) -> Callable[[Tensor], Tensor]:
    """What makes of rows [rows, width] others in which inputs that may be absent are so, now and then."""
    widths = [each.width for each in inputs]
    owner = torch.from_numpy(np.repeat(np.arange(len(inputs)), widths))
    absent = torch.zeros(sum(widths))
    may_be_absent = torch.zeros(len(inputs), dtype=torch.bool)
    start = 0
    for place, each in enumerate(inputs):
        may_be_absent[place] = isinstance(each, Category) or each.missing
        if may_be_absent[place]:
            # Of a category the first number says that it is unknown; of a number the second, that it is missing.
            absent[start if isinstance(each, Category) else start + 1] = 1.0
        start += each.width

    def hide(rows: Tensor) -> Tensor:
        hidden = (torch.rand(len(rows), len(widths)) < HIDDEN) & may_be_absent
        return torch.where(hidden[:, owner], absent, rows)

    return hide


def search(
    recipe: Recipe,
    seconds: float,
    on_try: Callable[[Tried], None],
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Recipe:
    """The recipe that came to the lowest validation loss of those that could be tried within so many seconds.

    The first is the one that is given, the others are drawn at random, without repetition. One that is still being
    tried when time is over does not count. Raises Diverged where none came to anything.
    """
    end = clock() + seconds
    best: Recipe | None = None
    lowest = float("inf")
    candidates = list(product(_WIDTHS, _PS, _WEIGHT_DECAYS, _LEARNING_RATES))
    np.random.Generator(np.random.PCG64(recipe.hyperparameters.seed)).shuffle(candidates)

    tried_one = False

    def watch(epoch: Epoch) -> None:
        on_epoch(epoch)
        if tried_one and clock() > end:
            raise _OutOfTime

    for number, candidate in enumerate([recipe, *(_changed(recipe, *each) for each in candidates)], start=1):
        if tried_one and clock() > end:
            break
        try:
            loss = best_loss(candidate, watch)
        except _OutOfTime:
            break
        except Diverged:
            on_try(Tried(number, candidate, None, best=False))
            continue
        tried_one, better = True, loss < lowest
        if better:
            best, lowest = candidate, loss
        on_try(Tried(number, candidate, loss, best=better))
    if best is None:
        raise Diverged(f"{recipe.name}: nothing that was tried came to a finite validation loss")
    return best


class _OutOfTime(Exception):
    """The time budget is spent."""


def _changed(recipe: Recipe, hidden: tuple[int, ...], p: float, weight_decay: float, learning_rate: float) -> Recipe:
    assert isinstance(recipe.architecture, Mlp), "tables are learnt by MLPs. This is a bug."
    return replace(
        recipe,
        architecture=recipe.architecture.model_copy(update={"hidden": hidden, "dropout": (p,) * len(hidden)}),
        hyperparameters=replace(recipe.hyperparameters, weight_decay=weight_decay, learning_rate=learning_rate),
    )
