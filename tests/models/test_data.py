"""Data sets and their division: no row is lost, and nothing is learnt from rows that are held out."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.data import describe_inputs, describe_outputs, split
from models.features import ClassLabel, Target
from tests.models.examples import linear_data, two_clouds

fractions = st.floats(0.0, 0.5)
seeds = st.integers(0, 2**63)


@given(st.integers(0, 500), seeds, fractions, fractions)
def test_partition(rows, seed, validation, test):
    """Every row is in exactly one of the three parts, and the parts have the sizes that were asked for."""
    parts = split(rows, seed, validation, test)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together.tolist()) == list(range(rows))
    assert len(parts.test) == round(rows * test)
    assert len(parts.validation) == min(round(rows * validation), rows - len(parts.test))


@given(st.integers(0, 500), seeds)
def test_seed_decides(rows, seed):
    """The same seed divides in the same way, whatever NumPy's global generator has been through."""
    first = split(rows, seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is what is tested
    second = split(rows, seed)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def test_another_seed_divides_differently():
    """Another seed gives another division."""
    assert split(100, 0).test.tolist() != split(100, 1).test.tolist()


def test_inputs_are_described_from_training_rows():
    """Mean, scale and range of an input are those of the training rows, whatever stands in the others."""
    data, parts = linear_data(50, noise=1.0), split(50, 0)
    spoilt = data.inputs.copy()
    spoilt[np.concatenate([parts.validation, parts.test])] = 1e6
    features = describe_inputs(dataclasses.replace(data, inputs=spoilt), parts.train)
    assert features == describe_inputs(data, parts.train)
    seen = data.inputs[parts.train]
    assert [feature.name for feature in features] == ["x1", "x2", "x3"]
    np.testing.assert_allclose([feature.mean for feature in features], seen.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose([feature.scale for feature in features], seen.std(axis=0), rtol=1e-12)
    assert [feature.range for feature in features] == list(zip(seen.min(axis=0), seen.max(axis=0), strict=True))


def test_outputs_are_described_from_training_rows():
    """Mean and scale of a target are those of the training rows, whatever stands in the others."""
    data, parts = linear_data(50, noise=1.0), split(50, 0)
    spoilt = data.targets.copy()
    spoilt[np.concatenate([parts.validation, parts.test])] = 1e6
    seen = data.numbers[parts.train]
    (target,) = describe_outputs(dataclasses.replace(data, targets=spoilt), parts.train)
    assert target == Target(name="y", units="m", mean=float(seen.mean()), scale=float(seen.std()))


def test_classes_are_described_in_order():
    """The classes keep their order and their names, also those that no training row shows."""
    data = two_clouds(20)
    assert describe_outputs(data, np.array([], np.int64)) == (ClassLabel(name="left"), ClassLabel(name="right"))


def test_task_is_read_off_the_targets():
    """Whole numbers are classes, all others a regression's targets."""
    assert two_clouds(5).classification
    assert not linear_data(5, noise=1.0).classification
