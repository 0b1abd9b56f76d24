"""Sample: every field of the answer, computed a second time from the draws with NumPy and SciPy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from tests.api.draws import (
    CLASSIFICATION,
    COMMON,
    REGRESSION,
    entropy,
    labels_of,
    members_variances,
    mixture_quantiles,
    same,
    sampled,
)
from tests.api.inside import running
from tests.api.live import Server
from tests.api.wire import ROW, SAMPLE, TINY_ROWS, ask


@pytest.mark.parametrize(
    ("model", "count"), [("diabetes", 3), ("diabetes", 3001), ("silent", 3), ("noisy", 3), ("headed", 3)]
)
def test_a_regression_is_summarised_from_its_draws(servers: dict[str, Server], model: str, count: int) -> None:
    """mean, epistemic_std (n − 1) and stderr are those of the draws, and std² = epistemic_std² + aleatoric_std²."""
    answer, draws = sampled(servers[model], model, count=count)
    assert draws.shape[:2] == (50, count)
    assert list(answer) == [*COMMON, *REGRESSION, "draws"]
    assert same(answer["mean"], draws.mean(axis=0))
    assert same(answer["epistemic_std"], draws.std(axis=0, ddof=1))
    assert same(answer["stderr"], draws.std(axis=0, ddof=1) / math.sqrt(50))
    epistemic, total = np.array(answer["epistemic_std"]), np.array(answer["std"])
    assert (epistemic > 0).all()
    if model == "silent":
        assert answer["aleatoric_std"] is None
        assert same(total, epistemic)
    else:
        assert same(total**2, epistemic**2 + np.array(answer["aleatoric_std"]) ** 2)


def test_noise_that_is_known_is_the_aleatoric_part(tiny: Server) -> None:
    """Without a variance head the fitted noise variances of the manifest are given, each for its output."""
    answer, _ = sampled(tiny, "noisy")
    assert same(answer["aleatoric_std"], [[0.5, 30.0]] * 3)


@pytest.mark.parametrize("model", ["diabetes", "headed"])
def test_a_variance_heads_noise_is_the_mean_of_its_members(servers: dict[str, Server], model: str) -> None:
    """aleatoric_std² is the mean over samples of the members' variances, not the square of their mean deviation."""
    answer, _ = sampled(servers[model], model, 12)
    variances = members_variances(servers[model], model, 12)
    assert len(np.unique(variances[:, 0, 0])) == 12
    assert same(np.array(answer["aleatoric_std"]) ** 2, variances.mean(axis=0))


def test_without_known_noise_the_interval_is_of_the_means(tiny: Server) -> None:
    """A model with no head and no fitted noise answers with an epistemic interval: quantiles of the draws."""
    answer, draws = sampled(tiny, "silent", interval=0.8, quantiles=[0.25, 0.5])
    assert list(answer["interval"]) == ["level", "kind", "lower", "upper"]
    assert answer["interval"]["level"] == 0.8
    assert answer["interval"]["kind"] == "epistemic"
    assert same(answer["interval"]["lower"], np.quantile(draws, 0.1, axis=0))
    assert same(answer["interval"]["upper"], np.quantile(draws, 0.9, axis=0))
    assert same(answer["quantiles"]["0.25"], np.quantile(draws, 0.25, axis=0))
    assert same(answer["quantiles"]["0.5"], np.median(draws, axis=0))


@pytest.mark.parametrize("model", ["diabetes", "headed", "noisy"])
def test_with_known_noise_the_interval_is_of_the_mixture(servers: dict[str, Server], model: str) -> None:
    """Interval and quantiles are those of the mixture of normals, found a second time by bisection."""
    answer, draws = sampled(servers[model], model, 12, interval=0.8, quantiles=[0.001, 0.5])
    variances = np.array([0.25, 900.0]) if model == "noisy" else members_variances(servers[model], model, 12)
    assert answer["interval"]["kind"] == "predictive"
    assert answer["interval"]["level"] == 0.8
    for found, probability in (
        (answer["interval"]["lower"], 0.1),
        (answer["interval"]["upper"], 0.9),
        (answer["quantiles"]["0.001"], 0.001),
        (answer["quantiles"]["0.5"], 0.5),
    ):
        assert same(found, mixture_quantiles(probability, draws, np.sqrt(variances)), rtol=1e-9)


@pytest.mark.parametrize("model", ["silent", "noisy", "headed"])
@pytest.mark.parametrize("level", [5e-324, 1e-9, 0.999999, 1 - 2**-52])
def test_the_narrowest_and_the_widest_interval_are_in_order(tiny: Server, model: str, level: float) -> None:
    """Any level in (0, 1) is answered with lower ≤ median ≤ upper."""
    answer, _ = sampled(tiny, model, 20, interval=level, quantiles=[0.5])
    median = np.array(answer["quantiles"]["0.5"])
    assert (np.array(answer["interval"]["lower"]) <= median + 1e-9).all()
    assert (np.array(answer["interval"]["upper"]) >= median - 1e-9).all()


async def test_a_level_next_to_1_is_answered(tiny_store: Path) -> None:
    """The largest level below 1 is in (0, 1): its interval is answered, if need be with null for an infinite bound."""
    async with running(store=tiny_store) as (_, client):
        body = {"inputs": TINY_ROWS, "seed": 1, "samples": 20, "interval": 1 - 2**-53}
        answer = await client.post("/v1/models/noisy/sample", json=body)
        assert answer.status_code == 200
        assert answer.json()["interval"]["level"] == 1 - 2**-53


@pytest.mark.parametrize(
    ("model", "probability"),
    [
        ("noisy", 1e-300),
        ("noisy", 1e-12),
        ("noisy", 1 - 1e-9),
        ("headed", 1e-12),
        ("headed", 1 - 1e-9),
        ("headed", 1e-300),
    ],
)
def test_quantiles_far_out_are_those_of_the_mixture(tiny: Server, model: str, probability: float) -> None:
    """Probabilities next to 0 and 1 give the point where the mixture's tail, as a logarithm, has that probability."""
    answer, draws = sampled(tiny, model, 12, quantiles=[probability])
    variances = np.array([0.25, 900.0]) if model == "noisy" else members_variances(tiny, model, 12)
    found, deviations = np.array(answer["quantiles"][repr(probability)], float), np.sqrt(variances)
    tail, expected = (
        (norm.logcdf, math.log(probability)) if probability < 0.5 else (norm.logsf, math.log1p(-probability))
    )
    assert np.allclose(logsumexp(tail(found, draws, deviations), axis=0) - math.log(12), expected, rtol=1e-6)


def test_the_interval_is_90_percent_by_default(tiny: Server) -> None:
    """Leaving the level out is asking for 0.9."""
    answer, _ = sampled(tiny, "noisy")
    assert answer["interval"]["level"] == 0.9
    assert answer == sampled(tiny, "noisy", interval=0.9)[0]


def test_quantiles_are_keyed_by_the_probabilities_that_were_asked_for(server: Server) -> None:
    """Keys are the shortest decimals of the probabilities, in their order; values increase with them."""
    asked = [0.5, 0.05, 0.95, 1e-3, 0.30000000000000004]
    answer = ask(server.client, SAMPLE, inputs=[ROW], seed=1, samples=20, quantiles=asked)
    assert list(answer["quantiles"]) == ["0.5", "0.05", "0.95", "0.001", "0.30000000000000004"]
    assert [float(key) for key in answer["quantiles"]] == asked
    values = [value[0][0] for _, value in sorted(answer["quantiles"].items(), key=lambda item: float(item[0]))]
    assert values == sorted(set(values))


def test_quantiles_are_given_only_if_asked_for(server: Server) -> None:
    """Neither leaving them out nor an empty list puts `quantiles` into the answer; 32 are not too many."""
    body = {"inputs": [ROW], "seed": 1, "samples": 3}
    assert "quantiles" not in ask(server.client, SAMPLE, **body)
    assert "quantiles" not in ask(server.client, SAMPLE, **body, quantiles=[])
    assert len(ask(server.client, SAMPLE, **body, quantiles=[i / 33 for i in range(1, 33)])["quantiles"]) == 32


@pytest.mark.parametrize(("model", "count"), [("breast-cancer", 3), ("digits", 3), ("digits", 301), ("colours", 3)])
def test_a_classification_is_summarised_from_its_draws(servers: dict[str, Server], model: str, count: int) -> None:
    """Probabilities, spreads, entropies in nats, mutual information, votes, variation ratio, labels: all of them."""
    answer, draws = sampled(servers[model], model, count=count)
    assert draws.shape[:2] == (50, count)
    calibrated = [] if model == "colours" else ["prediction_set"]
    assert list(answer) == [*COMMON, *CLASSIFICATION, *calibrated, "draws"]
    assert same(draws.sum(axis=2), np.ones(draws.shape[:2]))
    mean = draws.mean(axis=0)
    assert same(answer["probabilities"], mean)
    assert same(answer["std"], draws.std(axis=0, ddof=1))
    assert same(answer["stderr"], draws.std(axis=0, ddof=1) / math.sqrt(50))
    assert same(answer["predictive_entropy"], entropy(mean), rtol=1e-11)
    assert same(answer["expected_entropy"], entropy(draws).mean(axis=0), rtol=1e-11)
    mutual = np.subtract(answer["predictive_entropy"], answer["expected_entropy"])
    assert same(answer["mutual_information"], np.maximum(mutual, 0.0))
    assert max(answer["mutual_information"]) > 1e-4
    votes = np.stack([(draws.argmax(axis=2) == k).sum(axis=0) for k in range(draws.shape[2])], axis=-1)
    assert answer["votes"] == votes.tolist()
    assert same(answer["variation_ratio"], 1 - votes.max(axis=1) / 50)
    assert answer["labels"] == [labels_of(servers[model], model)[k] for k in mean.argmax(axis=1)]


def test_a_vote_decides_by_counting(tiny: Server) -> None:
    """With aggregate vote the label is the class of most votes, also where the mean of probabilities differs."""
    names = labels_of(tiny, "colours")
    differ = 0
    for seed in range(60):
        answer = ask(tiny.client, "/v1/models/colours/sample", inputs=TINY_ROWS, samples=5, seed=seed)
        voted = ask(tiny.client, "/v1/models/colours/sample", inputs=TINY_ROWS, samples=5, seed=seed, aggregate="vote")
        assert voted["labels"] == [names[k] for k in np.argmax(voted["votes"], axis=1)]
        assert {**voted, "labels": answer["labels"]} == answer
        differ += voted["labels"] != answer["labels"]
    assert differ


def test_tied_votes_go_to_the_first_class(tiny: Server) -> None:
    """Where two samples disagree each class has one vote, and the lower index wins, whatever the order of the votes."""
    names = labels_of(tiny, "colours")
    asked = {"inputs": TINY_ROWS[:1], "seed": 5, "aggregate": "vote"}
    draws = np.array(ask(tiny.client, "/v1/models/colours/sample", **asked, samples=200, return_draws=True)["draws"])
    choices = draws[:, 0].argmax(axis=1)
    ties = [i for i in range(199) if choices[i] != choices[i + 1]]
    assert {choices[i] < choices[i + 1] for i in ties} == {True, False}
    for i in ties:
        answer = ask(tiny.client, "/v1/models/colours/sample", **asked, samples=2, first_sample=i)
        assert sorted(answer["votes"][0]) == [0, 1, 1]
        assert answer["labels"] == [names[min(choices[i], choices[i + 1])]]
        assert answer["variation_ratio"] == [0.5]


def test_equal_probabilities_go_to_the_first_class(tiny: Server) -> None:
    """Where every sample is undecided the first class gets all votes, and mutual information is 0, not just below."""
    answer = ask(tiny.client, "/v1/models/undecided/sample", inputs=TINY_ROWS, samples=7, seed=1)
    assert answer["labels"] == ["red"] * 3
    assert answer["votes"] == [[7, 0, 0]] * 3
    assert same(answer["predictive_entropy"], [math.log(3)] * 3)
    assert same(answer["mutual_information"], [0.0] * 3)
    assert min(answer["mutual_information"]) >= 0.0
    assert answer["variation_ratio"] == [0.0] * 3
    assert answer["std"] == [[0.0] * 3] * 3
