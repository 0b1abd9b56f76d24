"""Sample: every field of the answer, computed a second time from the draws with NumPy and SciPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm

from tests.api.inside import running
from tests.api.live import Server
from tests.api.wire import NAMES, ROW, SAMPLE, TINY_ROWS, ask, assert_problem, rows_of

Floats = NDArray[np.float64]
COMMON = ["model", "seed", "first_sample", "samples", "method"]
REGRESSION = ["mean", "std", "epistemic_std", "aleatoric_std", "stderr", "interval"]
CLASSIFICATION = [
    "labels",
    "probabilities",
    "std",
    "stderr",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "variation_ratio",
    "votes",
]


def same(found: ArrayLike, expected: ArrayLike, rtol: float = 1e-12) -> bool:
    """Equal shapes, and numbers equal but for rounding."""
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=rtol, atol=1e-15)


def entropy(probabilities: Floats) -> Floats:
    """−Σ p ln p over the last axis."""
    return -np.sum(probabilities * np.log(probabilities), axis=-1)


@pytest.fixture
def servers(server: Server, tiny: Server) -> dict[str, Server]:
    """Who serves which model."""
    return {
        **dict.fromkeys(("diabetes", "breast-cancer", "digits"), server),
        **dict.fromkeys(("silent", "noisy", "headed", "colours"), tiny),
    }


def sampled(
    server: Server, model: str, samples: int = 50, count: int = 3, **options: Any
) -> tuple[dict[str, Any], Floats]:
    """An answer for `count` rows, and its draws [samples, rows, outputs]."""
    rows = rows_of(server.client, model, count)
    answer = ask(
        server.client,
        f"/v1/models/{model}/sample",
        **{"inputs": rows, "seed": 11, "samples": samples, "return_draws": True, **options},
    )
    return answer, np.array(answer["draws"])


def members_variances(server: Server, model: str, samples: int) -> Floats:
    """Each sample's own aleatoric variance [samples, rows, outputs], asked for one by one."""
    return np.array([sampled(server, model, 1, first_sample=i)[0]["aleatoric_std"] for i in range(samples)]) ** 2


def mixture_quantile(probability: float, means: Floats, deviations: Floats) -> float:
    """The quantile of an equal-weight mixture of normals, by bisection of its distribution function."""
    low, high = (means + sign * 40 * deviations for sign in (-1, 1))

    def above(x: float) -> float:
        return float(norm.cdf(x, means, deviations).mean() - probability)

    return float(brentq(above, low.min(), high.max(), xtol=1e-11, rtol=1e-14))


def mixture_quantiles(probability: float, means: Floats, deviations: Floats) -> Floats:
    """The same for [samples, rows, outputs]: [rows, outputs]."""
    deviations = np.broadcast_to(deviations, means.shape)
    return np.array(
        [
            [mixture_quantile(probability, means[:, i, j], deviations[:, i, j]) for j in range(means.shape[2])]
            for i in range(means.shape[1])
        ]
    )


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
    assert list(answer) == [*COMMON, *CLASSIFICATION, "draws"]
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


@pytest.mark.parametrize("model", ["diabetes", "breast-cancer"])
def test_draws_continue_where_others_ended(server: Server, model: str) -> None:
    """first_sample = 30 gives the samples that follow the first 30, number for number."""
    whole = sampled(server, model, 50)[1]
    assert np.array_equal(sampled(server, model, 30)[1], whole[:30])
    answer, rest = sampled(server, model, 20, first_sample=30)
    assert answer["first_sample"] == 30
    assert answer["samples"] == 20
    assert np.array_equal(rest, whole[30:])


def test_draws_are_samples_by_rows_by_outputs(tiny: Server) -> None:
    """Their shape is [samples, rows, outputs], they are given only if asked for, and asking changes nothing else."""
    answer, draws = sampled(tiny, "silent", 5)
    assert draws.shape == (5, 3, 2)
    rows = rows_of(tiny.client, "silent")
    without = ask(tiny.client, "/v1/models/silent/sample", inputs=rows, seed=11, samples=5)
    assert answer == {**without, "draws": draws.tolist()}


@pytest.mark.parametrize("model", ["silent", "noisy", "headed", "colours"])
def test_one_sample_has_no_spread(tiny: Server, model: str) -> None:
    """With samples = 1 what needs two is null, never 0 and never NaN; what one sample can say is there."""
    answer, draws = sampled(tiny, model, 1, quantiles=[0.5]) if model != "colours" else sampled(tiny, model, 1)
    assert answer["std"] is None
    assert answer["stderr"] is None
    if model == "colours":
        assert same(answer["probabilities"], draws[0])
        assert answer["variation_ratio"] == [0.0] * 3
        assert answer["mutual_information"] == [0.0] * 3
        return
    assert same(answer["mean"], draws[0])
    assert answer["epistemic_std"] is None
    if model == "silent":
        assert answer["aleatoric_std"] is None
        assert answer["interval"] == {"level": 0.9, "kind": "epistemic", "lower": None, "upper": None}
        assert answer["quantiles"] == {"0.5": None}
    else:
        noise = np.array(answer["aleatoric_std"])
        assert same(answer["interval"]["upper"], draws[0] + norm.ppf(0.95) * noise)
        assert same(answer["quantiles"]["0.5"], draws[0])


def test_named_rows_are_listed_rows(server: Server) -> None:
    """Rows keyed by input names give the bytes that the same rows as lists give."""
    body = {"seed": 3, "samples": 20, "return_draws": True}
    rows = rows_of(server.client, "diabetes")
    listed = server.client.post(SAMPLE, json={**body, "inputs": rows})
    named = server.client.post(SAMPLE, json={**body, "inputs": [dict(zip(NAMES, row, strict=True)) for row in rows]})
    assert listed.status_code == 200
    assert named.content == listed.content


@pytest.mark.parametrize(("model", "samples"), [("silent", 7), ("noisy", 100)])
def test_the_default_number_of_samples_is_the_manifests(tiny: Server, model: str, samples: int) -> None:
    """Leaving `samples` out is asking for the manifest's number: 100, unless it says otherwise."""
    path = f"/v1/models/{model}/sample"
    answer = ask(tiny.client, path, inputs=TINY_ROWS, seed=1)
    assert answer["samples"] == samples
    assert answer == ask(tiny.client, path, inputs=TINY_ROWS, seed=1, samples=samples)


def test_options_that_are_left_out_have_the_contracts_defaults(server: Server) -> None:
    """Spelling every default out gives the same bytes as leaving them all out."""
    spelled = {
        "samples": 100,
        "first_sample": 0,
        "method": "dropout",
        "aggregate": "mean",
        "interval": 0.9,
        "quantiles": [],
        "return_draws": False,
    }
    short = server.client.post(SAMPLE, json={"inputs": [ROW], "seed": 1})
    assert short.status_code == 200
    assert server.client.post(SAMPLE, json={"inputs": [ROW], "seed": 1, **spelled}).content == short.content


def test_an_omitted_seed_is_drawn_and_can_be_replayed(server: Server) -> None:
    """Each request without a seed gets another one, in range, and asking for that seed gives the same bytes."""
    body = {"inputs": [ROW], "samples": 10}
    answers = [server.client.post(SAMPLE, json=body) for _ in range(5)]
    seeds = [answer.json()["seed"] for answer in answers]
    assert len(set(seeds)) == 5
    assert all(type(seed) is int and 0 <= seed < 2**53 for seed in seeds)
    assert max(seeds) > 2**40  # the chance that five fair draws miss this is about 2^-65
    for answer, seed in zip(answers, seeds, strict=True):
        assert server.client.post(SAMPLE, json={**body, "seed": seed}).content == answer.content


@pytest.mark.parametrize(("field", "value"), [("seed", 2**53 - 1), ("seed", 0), ("first_sample", 2**53 - 1)])
def test_the_ends_of_the_ranges_are_in_them(server: Server, field: str, value: int) -> None:
    """The largest seed and sample index are taken, and returned to the last digit."""
    answer = ask(server.client, SAMPLE, **{"inputs": [ROW], "samples": 1, "seed": 1, field: value})
    assert answer[field] == value


def test_seeds_name_different_committees(server: Server) -> None:
    """Neighbouring seeds have nothing in common, and neither have neighbouring samples."""
    draws = {seed: sampled(server, "diabetes", 20, seed=seed)[1][:, 0, 0] for seed in (11, 12, 2**52)}
    assert len(np.unique(np.concatenate(list(draws.values())))) == 60


@pytest.mark.parametrize("model", ["diabetes", "breast-cancer"])
def test_a_what_if_without_dropout_is_a_conflict(server: Server, model: str) -> None:
    """A what-if p of 0 would make every sample the same: 409 says so and points to predict."""
    body = {"inputs": rows_of(server.client, model), "dropout": 0}
    problem = assert_problem(server.client.post(f"/v1/models/{model}/sample", json=body), 409)
    assert problem["type"] == "urn:penumbra:problem:not-applicable"
    assert "no active dropout" in problem["detail"]
    assert "predict" in problem["detail"]


def test_a_model_without_dropout_can_be_sampled_only_what_if(tiny: Server) -> None:
    """A model with p = 0 everywhere answers 409, and with a what-if p it has a spread."""
    assert_problem(tiny.client.post("/v1/models/dry/sample", json={"inputs": TINY_ROWS}), 409)
    answer = ask(tiny.client, "/v1/models/dry/sample", inputs=TINY_ROWS, dropout=0.3, seed=1, samples=10)
    assert np.min(answer["epistemic_std"]) > 0


@pytest.mark.parametrize("model", ["diabetes", "breast-cancer", "digits"])
def test_a_what_if_that_drops_everything_is_finite(server: Server, model: str) -> None:
    """With dropout = 1 only biases are left: all rows and samples agree, and no number is missing."""
    draws = sampled(server, model, 5, dropout=1.0)[1]
    assert np.isfinite(draws).all()
    assert (draws == draws[:1, :1]).all()


def test_a_what_if_replaces_every_layers_p(server: Server) -> None:
    """The p that was trained, spelled out, changes nothing only if all layers have it; another p changes the draws."""
    own = sampled(server, "breast-cancer", 10)[1]
    assert np.array_equal(sampled(server, "breast-cancer", 10, dropout=0.3)[1], own)
    assert not np.array_equal(sampled(server, "breast-cancer", 10, dropout=0.31)[1], own)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("diabetes", {"method": "ensemble"}),
        ("digits", {"method": "ensemble"}),
        ("digits", {"aggregate": "weighted"}),
        ("digits", {"method": "ensemble", "aggregate": "weighted"}),
    ],
)
def test_a_model_without_members_is_no_ensemble(server: Server, model: str, options: dict[str, str]) -> None:
    """Asking a single network for its members is a conflict, said in those words."""
    body = {"inputs": rows_of(server.client, model), **options}
    problem = assert_problem(server.client.post(f"/v1/models/{model}/sample", json=body), 409)
    assert "members" in problem["detail"]


@pytest.mark.parametrize("model", ["silent", "noisy", "headed", "colours"])
def test_the_versions_path_gives_the_same_bytes(tiny: Server, model: str) -> None:
    """Asking the default version by name changes nothing."""
    body = {"inputs": TINY_ROWS, "seed": 1, "samples": 5}
    default = tiny.client.post(f"/v1/models/{model}/sample", json=body)
    assert default.status_code == 200
    assert tiny.client.post(f"/v1/models/{model}/versions/1/sample", json=body).content == default.content


@pytest.mark.parametrize("model", ["huge", "huge-colours"])
@pytest.mark.parametrize(("verb", "options"), [("sample", {"seed": 1, "samples": 3}), ("predict", {})])
def test_what_overflows_is_refused(tiny: Server, model: str, verb: str, options: dict[str, int]) -> None:
    """Where the network overflows float32 there is no answer, let alone a certain one: 422, naming the row."""
    answer = tiny.client.post(f"/v1/models/{model}/{verb}", json={"inputs": [[1e25, 0.0, 0.0]], **options})
    assert assert_problem(answer, 422)["errors"] == [
        {"field": "inputs[0]", "message": "is so far from the training data that the network overflows"}
    ]


def labels_of(server: Server, model: str) -> list[str]:
    """The classes of a model, in order."""
    return [output["name"] for output in server.client.get(f"/v1/models/{model}").json()["outputs"]]
