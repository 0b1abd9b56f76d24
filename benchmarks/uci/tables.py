"""A folder of tables with published train/test splits, as the code of MC dropout and PBP laid them out.

    <set>/data.txt                              numbers, a row a line
    <set>/index_features.txt, index_target.txt  which columns are inputs, and which one is learnt
    <set>/index_train_K.txt, index_test_K.txt   the rows of split K
    <set>/n_splits.txt                          how many splits there are

Training sees a `Lesson`, which has no test targets in it; those are asked for by name, to score. Knows nothing of
networks.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.features import Float64

Rows = npt.NDArray[np.int64]


class Unreadable(Exception):
    """A folder that is not laid out so; the message says, in a line, which file is wrong and how."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What may be learnt from: the training rows of one split, inputs [rows, features] and targets [rows, 1]."""

    inputs: Float64
    targets: Float64


@dataclass(frozen=True)
class Table:
    """One set of the folder. Files are read when they are needed; all of it raises Unreadable."""

    folder: Path

    @property
    def name(self) -> str:
        """The set's name: that of its folder."""
        return self.folder.name

    @cached_property
    def splits(self) -> int:
        """How many splits were published."""
        (count,) = self._numbers("n_splits.txt", 1).ravel()
        return int(count)

    def lesson(self, split: int) -> Lesson:
        """What a network for this split may be made from."""
        rows = self._rows("train", split)
        return Lesson(self._inputs[rows], self._targets(rows))

    def questions(self, split: int) -> Float64:
        """The inputs of the test rows [rows, features]."""
        return self._inputs[self._rows("test", split)]

    def answers(self, split: int) -> Float64:
        """The targets of the test rows [rows, 1]: for scoring alone."""
        return self._targets(self._rows("test", split))

    @cached_property
    def _data(self) -> Float64:
        return self._numbers("data.txt", None)

    @cached_property
    def _inputs(self) -> Float64:
        return self._data[:, self._columns("index_features.txt")]

    def _targets(self, rows: Rows) -> Float64:
        return self._data[rows][:, self._columns("index_target.txt")[:1]]

    def _columns(self, file: str) -> Rows:
        return self._within(file, self._data.shape[1])

    def _rows(self, part: str, split: int) -> Rows:
        return self._within(f"index_{part}_{split}.txt", len(self._data))

    def _within(self, file: str, count: int) -> Rows:
        found = self._numbers(file, 1).ravel()
        numbers = found.astype(np.int64)
        if len(numbers) == 0 or (numbers != found).any() or numbers.min() < 0 or numbers.max() >= count:
            raise Unreadable(f"{self.folder / file}: must hold whole numbers from 0 to {count - 1}")
        return numbers

    def _numbers(self, file: str, columns: int | None) -> Float64:
        path = self.folder / file
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an empty file: told below
                found: Float64 = np.loadtxt(path.read_text().splitlines(), np.float64, ndmin=2)
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror or error}") from error
        except ValueError as error:
            raise Unreadable(f"{path}: {str(error).splitlines()[0]}") from error
        if not found.size or not np.isfinite(found).all() or columns not in {None, found.shape[1]}:
            raise Unreadable(f"{path}: must hold {'numbers' if columns is None else 'one number a line'}, all finite")
        return found


def tables(folder: Path, names: tuple[str, ...] = ()) -> list[Table]:
    """The sets of a folder by name, or those that are named. Raises Unreadable where there is none."""
    found = sorted(path.parent.name for path in folder.glob("*/n_splits.txt"))
    if not found:
        raise Unreadable(f"{folder} has no folder with an n_splits.txt")
    if unknown := [name for name in names if name not in found]:
        raise Unreadable(f"{folder} has no set {unknown[0]!r}; there are: {', '.join(found)}")
    return [Table(folder / name) for name in names or found]
