"""Tables to learn from, and how their rows are divided. Knows nothing of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from models.features import Boolean, Category, ClassLabel, Feature, Float64, Input, Target, column_statistics

Kind: TypeAlias = Literal["number", "boolean"] | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table in raw units: inputs [rows, features] float64 and, by task, what is to be learnt.

    Regression: targets [rows, outputs] float64 with `output_names` and `output_units`.
    Classification: targets [rows] int64, indices into `output_names`.

    `kinds` says what the columns are where not all of them are plain numbers: texts are a category's names, whose
    places among them (or UNKNOWN) are the column's numbers; NaN is missing. With `image`, height × width (× channels),
    the columns are the numbers of an image, and standardised alike.
    """

    source: str
    inputs: Float64
    targets: npt.NDArray[np.float64] | npt.NDArray[np.int64]
    input_names: Sequence[str]
    output_names: Sequence[str]
    output_units: Sequence[str | None] | None = None
    kinds: Sequence[Kind] | None = None
    image: tuple[int, ...] | None = None

    @property
    def classification(self) -> bool:
        """Whether the targets are class indices."""
        return self.targets.dtype.kind == "i"

    @property
    def numbers(self) -> Float64:
        """The targets of a regression."""
        return self.targets.astype(np.float64)

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The targets of a classification."""
        return self.targets.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts; every row is in exactly one."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split(rows: int, seed: int, validation_fraction: float = 0.2, test_fraction: float = 0.2) -> Split:
    """A random partition of 0 … rows − 1, decided by the seed alone."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(rows)
    test = round(rows * test_fraction)
    validation = round(rows * validation_fraction)
    return Split(train=order[test + validation :], validation=order[test : test + validation], test=order[:test])


def describe_inputs(dataset: Dataset, train: npt.NDArray[np.int64]) -> tuple[Input, ...]:
    """The input columns as the training rows show them: standardisation and ranges never see the other rows."""
    seen = dataset.inputs[train]
    if dataset.kinds is not None:
        missing = [bool(np.isnan(column).any()) for column in dataset.inputs.T]
        return tuple(
            _describe(name, kind, seen[:, i], missing=missing[i])
            for i, (name, kind) in enumerate(zip(dataset.input_names, dataset.kinds, strict=True))
        )
    if dataset.image:
        mean, scale = (np.repeat(part, seen.shape[1]) for part in column_statistics(seen.reshape(-1, 1)))
        low, high = (np.repeat(part, seen.shape[1]) for part in (seen.min(), seen.max()))
    else:
        mean, scale = column_statistics(seen)
        low, high = seen.min(axis=0), seen.max(axis=0)
    return tuple(
        Feature(name=name, range=(float(low[i]), float(high[i])), mean=float(mean[i]), scale=float(scale[i]))
        for i, name in enumerate(dataset.input_names)
    )


def _describe(name: str, kind: Kind, seen: Float64, *, missing: bool) -> Input:
    """One column of a kind; `missing` says whether any row lacks it."""
    if not isinstance(kind, str):
        return Category(name=name, kind="category", categories=kind)
    present = seen[~np.isnan(seen)]
    if not present.size:
        raise ValueError(f"column {name!r} has no values in the rows that are trained on")
    mean, scale = (float(part[0]) for part in column_statistics(present[:, None]))
    if kind == "boolean":
        return Boolean(name=name, kind="boolean", mean=mean, scale=scale, missing=missing)
    bounds = float(present.min()), float(present.max())
    return Feature(name=name, range=bounds, mean=mean, scale=scale, missing=missing)


def describe_outputs(dataset: Dataset, train: npt.NDArray[np.int64]) -> tuple[Target, ...] | tuple[ClassLabel, ...]:
    """The outputs: classes in order, or target columns with the training rows' mean and scale."""
    if dataset.classification:
        return tuple(ClassLabel(name=name) for name in dataset.output_names)
    mean, scale = column_statistics(dataset.numbers[train])
    units = dataset.output_units or [None] * len(dataset.output_names)
    return tuple(
        Target(name=name, units=units[i], mean=float(mean[i]), scale=float(scale[i]))
        for i, name in enumerate(dataset.output_names)
    )
