"""Conformal quantiles: crepes' are the order statistics of the definition, and they cover."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.conformal import LEVELS, class_scores, conformal, covered, regression_scores, sets_of


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=120))
def test_quantiles_are_order_statistics(scores):
    """At each level the quantile is the ⌈(m + 1) level⌉-th smallest score, counted in exact fractions; else None."""
    (found,) = conformal(np.array(scores)[:, None], (0.1,), 100).quantiles
    ordered = sorted(scores)
    for level, quantile in zip(LEVELS, found, strict=True):
        place = math.ceil((len(scores) + 1) * Fraction(str(level)))
        assert quantile == (None if place > len(scores) else ordered[place - 1])


def test_every_output_has_its_own():
    """The quantiles of each column are those of it alone."""
    scores = np.random.default_rng(0).exponential(size=(30, 2)) * [1.0, 50.0]
    both = conformal(scores, (0.1,), 100).quantiles
    assert both == tuple(conformal(scores[:, [i]], (0.1,), 100).quantiles[0] for i in range(2))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_coverage(level):
    """Over many calibrations and new rows the share covered is at least the level, and at most 1 / (m + 1) more.

    The bounds of Vovk et al. 2005, widened by four standard errors of 200,000 rows.
    """
    rng = np.random.Generator(np.random.PCG64(3))
    m, repeats, new = 39, 400, 500
    hits = 0
    for _ in range(repeats):
        held = conformal(rng.exponential(size=(m, 1)), (0.1,), 100)
        hits += covered(rng.exponential(size=(new, 1)), held, level).sum()
    # Rows share their calibration, so it is the number of calibrations that counts: a Beta's spread about the level.
    error = 4 * math.sqrt(level * (1 - level) / (m + 2) / repeats)
    assert level - error <= hits / (repeats * new) <= level + 1 / (m + 1) + error


def test_scores_of_a_regression():
    """They are errors in standard deviations; a committee of one mind has a millionth of the target's scale instead."""
    scores = regression_scores(np.array([[3.0], [5.0]]), np.array([[1.0], [4.0]]), np.array([[4.0], [0.0]]), np.ones(1))
    np.testing.assert_allclose(scores, [[0.5], [1e6]], rtol=1e-5)


def test_sets_hold_the_true_class_often_enough():
    """Sets at 90 % cover 90 % of 3,000 new rows within four binomial deviations above, and are never empty."""
    rng = np.random.Generator(np.random.PCG64(5))

    def rows(count):
        logits = 1.5 * rng.standard_normal((count, 4))
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return probabilities, (probabilities.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)

    probabilities, classes = rows(3000)
    held = conformal(class_scores(classes, probabilities), (0.1,), 100)
    probabilities, classes = rows(3000)
    sets = sets_of(probabilities, held, 0.9)
    share = sets[np.arange(3000), classes].mean()
    assert 0.9 - 0.031 <= share <= 0.9 + 0.031  # four deviations of both halves: 4 √(2 × 0.09 / 3000)
    assert 1.0 < sets.sum(axis=1).mean() < 4.0
    assert sets_of(probabilities, held, 0.01).any(axis=1).all()
    assert sets_of(probabilities, held, 0.9999).all()
