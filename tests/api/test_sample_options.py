"""Sample: what each option of a request does to the answer, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from tests.api.draws import (
    same,
    sampled,
)
from tests.api.live import Server
from tests.api.wire import NAMES, ROW, SAMPLE, TINY_ROWS, ask, assert_problem, rows_of


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
