"""Ensembles over HTTP: members take turns, vote and are weighed; prediction is their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import torch

from models.mixed import standardise
from models.networks import build
from models.repository import Repository
from tests.api.draws import same, sampled
from tests.api.live import Server
from tests.api.wire import TINY_ROWS, ask, assert_problem, rows_of, send

DIGITS = "/v1/models/digits-ensemble"


def full_networks(store: Path, name: str, rows: list[list[float]]) -> np.ndarray:
    """Each member's eval-mode outputs [members, rows, width], by plain modules."""
    model = Repository(store).load(name)
    inputs = torch.from_numpy(standardise(np.array(rows), model.manifest.inputs))
    outputs = []
    for tensors in model.networks:
        module = build(model.manifest.architecture).eval()
        module.load_state_dict(dict(tensors))
        with torch.no_grad():
            outputs.append(module(inputs).double().numpy())
    return np.stack(outputs)


@pytest.mark.parametrize("name", ["trio", "rainbow"])
def test_a_prediction_is_the_members_mean(tiny: Server, tiny_store: Path, name: str) -> None:
    """Means are averaged, or probabilities; a variance head's noise is the root of the members' mean variance."""
    answer = ask(tiny.client, f"/v1/models/{name}/predict", inputs=TINY_ROWS)
    outputs = full_networks(tiny_store, name, TINY_ROWS)
    assert len(outputs) == 3
    if name == "rainbow":
        chances = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
        assert same(answer["probabilities"], chances.mean(axis=0), rtol=1e-5)
        return
    targets = Repository(tiny_store).load(name).manifest.targets
    shift, scale = (np.array([getattr(target, part) for target in targets]) for part in ("mean", "scale"))
    assert same(answer["mean"], outputs[..., :2].mean(axis=0) * scale + shift, rtol=1e-5)
    noise = (np.logaddexp(0, outputs[..., 2:]) + 1e-6) * scale**2
    assert same(answer["aleatoric_std"], np.sqrt(noise.mean(axis=0)), rtol=1e-5)


def test_without_dropout_samples_are_the_members(tiny: Server, tiny_store: Path) -> None:
    """Sample i is the full network of member i mod M, from any first sample on."""
    answer, draws = sampled(tiny, "trio", 7, method="ensemble", dropout=0, first_sample=2)
    assert answer["method"] == "ensemble"
    rows = rows_of(tiny.client, "trio")
    targets = Repository(tiny_store).load("trio").manifest.targets
    shift, scale = (np.array([getattr(target, part) for target in targets]) for part in ("mean", "scale"))
    members = full_networks(tiny_store, "trio", rows)[..., :2] * scale + shift
    for place in range(7):
        assert same(draws[place], members[(2 + place) % 3], rtol=1e-5)


def test_the_dropout_method_is_the_first_members_committee(server: Server) -> None:
    """digits-ensemble's first member is digits: by default both draw the same samples."""
    single, ensemble = (sampled(server, name, 20)[1] for name in ("digits", "digits-ensemble"))
    assert np.array_equal(single, ensemble)
    turns = sampled(server, "digits-ensemble", 20, method="ensemble")[1]
    assert np.array_equal(turns[::5], single[::5])


def test_weighted_labels_are_those_of_the_weighted_mean(tiny: Server, tiny_store: Path) -> None:
    """Members' validation weights decide the label; nothing else of the answer depends on the aggregate."""
    weights = [member.weight for member in Repository(tiny_store).load("rainbow").manifest.members]
    assert weights == [0.2, 0.7, 0.1]
    options = {"method": "ensemble", "first_sample": 1, "count": 40}
    by_mean, draws = sampled(tiny, "rainbow", 11, **options)
    weighted, _ = sampled(tiny, "rainbow", 11, **options, aggregate="weighted")
    voted, _ = sampled(tiny, "rainbow", 11, **options, aggregate="vote")
    scale = np.array([weights[(1 + place) % 3] for place in range(11)])
    names = np.array(["red", "green", "blue"])
    assert weighted["labels"] == names[np.tensordot(scale, draws, 1).argmax(axis=1)].tolist()
    assert by_mean["labels"] == names[draws.mean(axis=0).argmax(axis=1)].tolist()
    assert voted["labels"] == names[np.array(voted["votes"]).argmax(axis=1)].tolist()
    for answer in (weighted, voted):
        assert {**answer, "labels": None} == {**by_mean, "labels": None}
    assert weighted["labels"] != by_mean["labels"]


@pytest.mark.parametrize(
    ("model", "fields", "status", "said"),
    [
        ("rainbow", {"aggregate": "weighted"}, 422, "aggregate: can be weighted with method ensemble alone"),
        ("colours", {"aggregate": "weighted"}, 409, "colours has no ensemble members to weigh"),
        ("colours", {"method": "ensemble"}, 409, "colours has no ensemble members: ask for method dropout"),
        ("trio", {"method": "ensemble", "aggregate": "weighted"}, 422, "aggregate: is for classifications"),
    ],
)
def test_what_only_members_can_do(tiny: Server, model: str, fields: dict[str, str], status: int, said: str) -> None:
    """Methods and aggregates that need members say so."""
    response = tiny.client.post(f"/v1/models/{model}/sample", json={"inputs": TINY_ROWS, **fields})
    assert assert_problem(response, status)["detail"].startswith(said)


def test_the_manifest_lists_the_members(server: Server) -> None:
    """The members and their weights, which add up to 1; a single network has none."""
    members = server.client.get(DIGITS).json()["members"]
    assert len(members) == 5
    assert sum(member["weight"] for member in members) == pytest.approx(1.0)
    assert "members" not in server.client.get("/v1/models/digits").json()


def test_the_protocol_asks_ensembles_too(server: Server) -> None:
    """Under /v2 the same draws, with the method in the parameters."""
    tensor = {"name": "inputs", "shape": [1, 64], "datatype": "FP64", "data": [1.0] * 64}
    parameters = {"method": "ensemble", "samples": 8, "seed": 3, "draws": True}
    answer = server.client.post(
        "/v2/models/digits-ensemble/infer", json={"inputs": [tensor], "parameters": parameters}
    ).json()
    native = ask(
        server.client, f"{DIGITS}/sample", inputs=[[1.0] * 64], method="ensemble", samples=8, seed=3, return_draws=True
    )
    (draws,) = (output["data"] for output in answer["outputs"] if output["name"] == "draws")
    assert draws == np.ravel(native["draws"]).tolist()
    assert answer["parameters"]["method"] == "ensemble"


def test_a_stream_of_an_ensemble_ends_like_its_sample(server: Server) -> None:
    """Blocks begin at whoever's turn it is; weighed or not, the last event is the answer."""
    body = {"inputs": [[2.0] * 64], "method": "ensemble", "seed": 1, "samples": 107, "first_sample": 3}
    for aggregate in ("mean", "weighted"):
        request = orjson.dumps({**body, "aggregate": aggregate})
        whole = send(server.client, f"{DIGITS}/sample", request).content
        stream = send(server.client, f"{DIGITS}/sample/stream", request).content
        assert stream.endswith(b"event: answer\ndata: " + whole + b"\n\n")
