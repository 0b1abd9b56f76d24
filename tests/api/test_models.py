"""Listing and describing models: what is served, which version by default, and what is not."""

from __future__ import annotations

import json

import pytest

from service.settings import SHIPPED_STORE
from tests.api.live import Server
from tests.api.wire import ROW, TINY_ROWS, ask, assert_problem

BODY = {"inputs": TINY_ROWS}
DAMAGED = "weights.safetensors is not the file that the manifest was made for"


def test_the_list_has_every_model_sorted_by_name(server: Server) -> None:
    """Each shipped model is listed with exactly the contract's fields, ready, and with its manifest's digest."""
    listed = server.client.get("/v1/models").json()
    assert list(listed) == ["models"]
    assert [entry["name"] for entry in listed["models"]] == [
        "breast-cancer",
        "diabetes",
        "digits",
        "digits-ensemble",
        "mnist-ff",
    ]
    for entry in listed["models"]:
        manifest = json.loads((SHIPPED_STORE / entry["name"] / entry["version"] / "manifest.json").read_text())
        assert entry == {
            "name": entry["name"],
            "version": "1",
            "versions": ["1"],
            "task": manifest["task"],
            "digest": manifest["digest"],
            "ready": True,
        }


@pytest.mark.parametrize("name", ["breast-cancer", "diabetes", "digits"])
def test_a_description_is_the_manifest(server: Server, name: str) -> None:
    """Everything that the manifest file says is in the description, and the same under the version's own path."""
    manifest = json.loads((SHIPPED_STORE / name / "1" / "manifest.json").read_text())
    described = server.client.get(f"/v1/models/{name}").json()
    assert {key: described[key] for key in manifest} == manifest
    assert set(described) - set(manifest) == {"reproducibility"}
    assert server.client.get(f"/v1/models/{name}/versions/1").json() == described


def test_a_description_says_how_reproducible_answers_are(server: Server) -> None:
    """Sums are taken in order, rows need no filling up, and this process has compared bits."""
    found = server.client.get("/v1/models/diabetes").json()["reproducibility"]
    assert found == {"plan": "ordered", "rows": 1, "verified": True}


def test_a_description_has_what_a_caller_needs_to_ask(server: Server) -> None:
    """Inputs have names, kinds, units and ranges; outputs have names and units; dropout rates and samples are there."""
    described = server.client.get("/v1/models/diabetes").json()
    assert len(described["inputs"]) == len(ROW)
    for feature in described["inputs"]:
        assert {"name", "kind", "units", "range"} <= set(feature)
        assert feature["range"][0] < feature["range"][1]
    assert described["outputs"][0]["name"] == "progression"
    assert described["outputs"][0]["units"] == "score"
    assert described["architecture"]["dropout"] == [0.2, 0.2]
    assert described["default_samples"] == 100
    assert described["provenance"]
    assert described["metrics"]


def test_a_classification_describes_its_classes_in_order(server: Server) -> None:
    """The outputs of a classification are its classes."""
    outputs = server.client.get("/v1/models/breast-cancer").json()["outputs"]
    assert [output["name"] for output in outputs] == ["malignant", "benign"]


@pytest.mark.parametrize("path", ["", "/predict", "/sample"])
def test_an_unknown_model_is_404_and_names_those_that_exist(server: Server, path: str) -> None:
    """The caller learns which models there are, and does not see the name that was asked for again."""
    send = server.client.post if path else server.client.get
    problem = assert_problem(send(f"/v1/models/canary{path}"), 404)
    assert problem["type"] == "urn:penumbra:problem:unknown-model"
    assert "breast-cancer, diabetes, digits, digits-ensemble" in problem["detail"]
    assert "canary" not in json.dumps(problem)


@pytest.mark.parametrize("path", ["", "/predict", "/sample"])
def test_an_unknown_version_is_404_and_names_those_that_exist(tiny: Server, path: str) -> None:
    """The caller learns which versions the model has, in their order."""
    send = tiny.client.post if path else tiny.client.get
    problem = assert_problem(send(f"/v1/models/versioned/versions/31415{path}"), 404)
    assert problem["type"] == "urn:penumbra:problem:unknown-model"
    assert "versioned has no such version; there are: 1, 2, 10" in problem["detail"]
    assert "31415" not in problem["detail"]


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc", "%ff", "é", "~", "x" * 5000, ".hidden"])
def test_a_name_that_is_no_name_is_404(server: Server, name: str) -> None:
    """Names that lead elsewhere, are no text or are far too long find nothing and break nothing."""
    assert_problem(server.client.get(f"/v1/models/{name}/versions/1"), 404)


def test_versions_are_ordered_by_number(tiny: Server) -> None:
    """Version 10 comes after version 2."""
    assert entry_of(tiny, "versioned")["versions"] == ["1", "2", "10"]


def test_a_corrupt_newest_version_leaves_the_one_before_it_serving(tiny: Server) -> None:
    """Version 10 does not match its digest: it answers 503, is never the default, and version 2 answers instead."""
    entry = entry_of(tiny, "versioned")
    assert entry["ready"] is True
    assert entry["version"] == "2"
    assert tiny.client.get("/v1/models/versioned").json()["version"] == "2"
    assert ask(tiny.client, "/v1/models/versioned/predict", **BODY)["model"]["version"] == "2"
    for path in ("/predict", "/sample"):
        refused = tiny.client.post(f"/v1/models/versioned/versions/10{path}", json=BODY)
        assert assert_problem(refused, 503)["type"] == "urn:penumbra:problem:model-not-ready"
        assert int(refused.headers["retry-after"]) >= 1
    assert_problem(tiny.client.get("/v1/models/versioned/versions/10"), 503)


def test_versions_answer_for_themselves(tiny: Server) -> None:
    """Each version has a digest and answers of its own, and the default's are those of the newest that is ready."""
    answers = {
        version: ask(tiny.client, f"/v1/models/versioned{version}/predict", **BODY)
        for version in ("", "/versions/1", "/versions/2")
    }
    assert answers["/versions/1"]["model"]["digest"] != answers["/versions/2"]["model"]["digest"]
    assert answers["/versions/1"]["mean"] != answers["/versions/2"]["mean"]
    assert answers[""] == answers["/versions/2"]


def test_a_model_without_a_good_version_is_listed_as_not_ready(tiny: Server) -> None:
    """It answers 503 under every path, and the list says what is wrong, as the operator's log does."""
    assert entry_of(tiny, "broken") == {
        "name": "broken",
        "version": None,
        "versions": ["1"],
        "task": None,
        "digest": None,
        "ready": False,
        "failed": [{"version": "1", "reason": DAMAGED}],
    }
    for path in ("/v1/models/broken", "/v1/models/broken/versions/1"):
        assert_problem(tiny.client.get(path), 503)
        assert_problem(tiny.client.post(f"{path}/predict", json=BODY), 503)
    assert "not served: broken/1: weights.safetensors is not the file that the manifest was made for" in tiny.output


def entry_of(server: Server, name: str) -> dict[str, object]:
    """A model's line in the list."""
    return next(entry for entry in server.client.get("/v1/models").json()["models"] if entry["name"] == name)
