"""Drift: the index against a NumPy reference, and windows that forget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import evaluation
from models.manifest import Distribution
from models.repository import Repository
from service.engine import uncertainty
from service.settings import SHIPPED_STORE
from service.telemetry import drift
from tests.api.inside import running
from tests.telemetry.scrape import scrape_inside, value

counts = st.integers(2, 12).flatmap(lambda bins: st.lists(st.integers(0, 1000), min_size=bins, max_size=bins))


def reference_index(expected: Any, found: Any) -> float:
    """Σ (q − p) ln(q / p) of counts with a half added to each."""
    p, q = (np.asarray(each, float) + 0.5 for each in (expected, found))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))


@given(st.data())
def test_the_index_is_that_of_the_formula(data: st.DataObject) -> None:
    """For any counts it is the sum over the bins, never negative, and 0 where the shares are the same."""
    expected = data.draw(counts.filter(any))
    found = data.draw(st.lists(st.integers(0, 1000), min_size=len(expected), max_size=len(expected)).filter(any))
    values = sum(expected)
    shape = Distribution(edges=tuple(range(len(expected) - 1)), shares=tuple(count / values for count in expected))
    assert drift.index(shape, values, found) == pytest.approx(reference_index(expected, found), abs=1e-9)
    assert drift.index(shape, values, found) >= -1e-12
    assert drift.index(shape, values, [count * 1.0 for count in expected]) == pytest.approx(0.0, abs=1e-9)


def test_chance_is_what_the_index_is_without_drift() -> None:
    """On average over many pairs of samples of one distribution."""
    rng = np.random.Generator(np.random.PCG64(0))
    values, seen, found = 400, 900, []
    for _ in range(400):
        first = rng.standard_normal(values)
        shape = evaluation.distribution(first)
        counted = np.bincount(np.searchsorted(shape.edges, rng.standard_normal(seen)), minlength=10).tolist()
        found.append(drift.index(shape, values, counted))
    assert np.mean(found) == pytest.approx(drift.chance(values, [seen / 10] * 10), rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4), st.integers(1, 5)), max_size=60))
def test_a_window_holds_the_last_twelve_periods(events: list[tuple[int, int, int]]) -> None:
    """Of whatever is counted in whatever periods, a reader sees what is not older than that."""
    bins, now = 5, 1000.0
    window = memoryview(bytearray(8 * drift.window_size(bins))).cast("d")
    expected = [0.0] * bins
    for step, place, count in events:
        if step > 20:
            now += step // 10
        for _ in range(count):
            drift.bins_of(window, bins, now)[place] += 1.0
    happened: list[tuple[float, int, int]] = []
    moment = 1000.0
    for step, place, count in events:
        if step > 20:
            moment += step // 10
        happened.append((moment, place, count))
    for at, place, count in happened:
        if at > now - drift.PERIODS:
            expected[place] += count
    assert drift.recent([window.tolist()], bins, now) == expected
    assert drift.recent([window.tolist()] * 2, bins, now) == [2 * each for each in expected]
    assert drift.recent([window.tolist()], bins, now + drift.PERIODS) == [0.0] * bins


def test_a_period_is_five_minutes() -> None:
    """And none of them is 0, which stands for none."""
    assert drift.period_of(0.0) == 1.0
    assert drift.period_of(299.9) == 1.0
    assert drift.period_of(300.0) == 2.0


def test_training_and_service_mean_the_same() -> None:
    """The quantities in a manifest are those of the service's summaries, for the same draws."""
    rng = np.random.Generator(np.random.PCG64(1))
    outputs = rng.standard_normal((20, 7, 4)).astype(np.float32)
    means, variances = outputs[..., :2].astype(float), evaluation.variance_of(outputs[..., 2:].astype(float))
    trained = evaluation.regression_uncertainty(means, variances)
    scale = np.array([3.0, 0.5])
    draws = uncertainty.regression_draws(outputs, np.array([1.0, -2.0]), scale, True, None)  # noqa: FBT003
    served = uncertainty.summarise_regression(draws, 0.9, ())
    np.testing.assert_allclose(trained["predictive_std"], served.std / scale, rtol=1e-6)
    np.testing.assert_allclose(trained["epistemic_std"], served.epistemic_std / scale, rtol=1e-6)
    told = evaluation.classification_uncertainty(outputs.astype(float))
    classes = uncertainty.summarise_classification(uncertainty.class_probabilities(outputs), "mean")
    np.testing.assert_allclose(told["predictive_entropy"], classes.predictive_entropy, rtol=1e-9)
    np.testing.assert_allclose(told["mutual_information"], classes.mutual_information, rtol=1e-9)


@pytest.mark.parametrize("name", ["breast-cancer", "diabetes", "digits"])
def test_shipped_models_know_their_validation_uncertainty(name: str) -> None:
    """Deciles of both of the task's quantities, of as many values as there were validation rows."""
    manifest = Repository(SHIPPED_STORE).load(name).manifest
    known = manifest.uncertainty
    assert known is not None
    assert known.samples == manifest.default_samples
    assert known.values == manifest.provenance["rows"]["validation"] * max(1, len(manifest.targets))
    kinds = ("predictive_std", "epistemic_std") if manifest.targets else ("predictive_entropy", "mutual_information")
    assert tuple(known.distributions) == kinds
    for shape in known.distributions.values():
        assert len(shape.edges) == 9
        assert shape.shares == pytest.approx([0.1] * 10, abs=0.02)


def _rows(name: str, count: int, spread: float) -> list[list[float]]:
    """Rows around the middle of the training data; at spread 1 as far from it as they were."""
    inputs = Repository(SHIPPED_STORE).load(name).manifest.inputs
    rng = np.random.Generator(np.random.PCG64(2))
    rows: list[list[float]] = (
        rng.standard_normal((count, len(inputs))) * [spread * each.scale for each in inputs] + [e.mean for e in inputs]
    ).tolist()
    return rows


async def test_the_service_tells_the_index_of_its_traffic(tmp_path: Path) -> None:
    """It is the reference's for the answers that were given, over all of the last hour; and large for strange rows."""
    manifest = Repository(SHIPPED_STORE).load("diabetes").manifest
    known = manifest.uncertainty
    assert known is not None
    (target,) = manifest.targets
    async with running(metrics_dir=str(tmp_path), access_log=False) as (_, client):

        async def ask(rows: list[list[float]], **options: Any) -> dict[str, Any]:
            answer = await client.post("/v1/models/diabetes/sample", json={"inputs": rows, "seed": 3, **options})
            assert answer.status_code == 200
            told: dict[str, Any] = answer.json()
            return told

        usual = _rows("diabetes", drift.LEAST_VALUES - 1, 0.8)
        answers = [await ask(usual)]
        assert not any(name.startswith("penumbra_drift") for name, _ in await scrape_inside(client))
        answers += [await ask(_rows("diabetes", 1, 0.8)), await ask(_rows("diabetes", 64, 1.0), samples=300)]
        # Not comparable: fewer samples than stand in the manifest, another p.
        await ask(_rows("diabetes", 500, 9.0), samples=50)
        await ask(_rows("diabetes", 500, 9.0), dropout=0.9)
        scraped = await scrape_inside(client)
        for quantity, field in (("predictive_std", "std"), ("epistemic_std", "epistemic_std")):
            seen = np.concatenate([np.ravel(answer[field]) for answer in answers]) / target.scale
            shape = known.distributions[quantity]  # type: ignore[index]
            found = np.bincount(np.searchsorted(shape.edges, seen), minlength=10)
            labels = {"model": "diabetes", "version": "1", "quantity": quantity}
            expected = np.array(shape.shares) * known.values
            assert value(scraped, "penumbra_drift_index", **labels) == pytest.approx(reference_index(expected, found))
            assert value(scraped, "penumbra_drift_values", **labels) == len(seen) == 264
            assert value(scraped, "penumbra_drift_chance", **labels) == pytest.approx(9 / 264 + 9 / known.values)
        before = value(scraped, "penumbra_drift_index", model="diabetes", version="1", quantity="epistemic_std")
        await ask(_rows("diabetes", 1000, 4.0))
        after = await scrape_inside(client)
        index = value(after, "penumbra_drift_index", model="diabetes", version="1", quantity="epistemic_std")
        assert index > max(0.5, 2 * before)


async def test_a_model_without_validation_uncertainty_has_no_index(tiny_store: Path) -> None:
    """Nothing is told where there is nothing to compare."""
    async with running(store=tiny_store, access_log=False) as (_, client):
        answer = await client.post("/v1/models/noisy/sample", json={"inputs": [[0.5, -1.0, -4.5]] * 500, "seed": 1})
        assert answer.status_code == 200
        scraped = await scrape_inside(client)
        assert value(scraped, "penumbra_predictive_std_ratio_count", model="noisy", version="1") == 1000
        assert not any(name.startswith("penumbra_drift") for name, _ in scraped)
