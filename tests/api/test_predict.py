"""Predict: the full network's deterministic answer, checked against the plain PyTorch module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.networks import build
from models.repository import Model, Repository
from service.settings import SHIPPED_STORE
from tests.api.live import Server
from tests.api.wire import NAMES, PREDICT, ROW, TINY_ROWS, ask, assert_problem, rows_of, send


def head_outputs(model: Model, rows: list[list[float]]) -> np.ndarray[Any, Any]:
    """What the plain module says of raw rows: [rows, head width]."""
    module = build(model.manifest.architecture)
    module.load_state_dict(model.tensors)
    inputs = model.manifest.inputs
    standard = (np.array(rows) - [feature.mean for feature in inputs]) / [feature.scale for feature in inputs]
    with torch.no_grad():
        return module.eval()(torch.from_numpy(standard).float()).double().numpy()


def test_a_regression_answers_with_mean_and_noise(server: Server) -> None:
    """The answer names the model and has the module's mean and, from its variance head, aleatoric_std in raw units."""
    model = Repository(SHIPPED_STORE).load("diabetes")
    rows = rows_of(server.client, "diabetes")
    answer = ask(server.client, PREDICT, inputs=rows)
    assert list(answer) == ["model", "mean", "aleatoric_std"]
    assert answer["model"] == {"name": "diabetes", "version": "1", "digest": model.manifest.digest}
    mean, pre_activation = np.split(head_outputs(model, rows), 2, axis=1)
    (target,) = model.manifest.targets
    assert np.allclose(answer["mean"], mean * target.scale + target.mean, rtol=1e-5)
    variance = (np.log1p(np.exp(pre_activation)) + 1e-6) * (model.manifest.calibration.temperature or 1.0)
    assert np.allclose(answer["aleatoric_std"], np.sqrt(variance) * target.scale, rtol=1e-5)


@pytest.mark.parametrize("name", ["breast-cancer", "digits"])
def test_a_classification_answers_with_labels_and_probabilities(server: Server, name: str) -> None:
    """Probabilities are the softmax of the module's tempered logits; a label names the most probable class."""
    model = Repository(SHIPPED_STORE).load(name)
    rows = rows_of(server.client, name, 5)
    answer = ask(server.client, f"/v1/models/{name}/predict", inputs=rows)
    assert list(answer) == ["model", "labels", "probabilities"]
    logits = head_outputs(model, rows) / (model.manifest.calibration.temperature or 1.0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(answer["probabilities"], expected, rtol=1e-4, atol=1e-7)
    assert np.allclose(np.sum(answer["probabilities"], axis=1), 1.0, rtol=1e-12)
    assert answer["labels"] == [model.manifest.labels[k] for k in expected.argmax(axis=1)]


@pytest.mark.parametrize("name", ["silent", "noisy", "headed"])
def test_several_outputs_keep_their_order_and_units(tiny: Server, tiny_store: Path, name: str) -> None:
    """Means are rows × outputs in each output's own units; aleatoric_std is there only with a variance head."""
    model = Repository(tiny_store).load(name)
    answer = ask(tiny.client, f"/v1/models/{name}/predict", inputs=TINY_ROWS)
    expected = head_outputs(model, TINY_ROWS)[:, :2] * [3.0, 200.0] + [10.0, -1000.0]
    assert np.allclose(answer["mean"], expected, rtol=1e-5)
    assert ("aleatoric_std" in answer) == (name == "headed")


def test_a_model_without_dropout_predicts(tiny: Server) -> None:
    """Prediction needs no dropout."""
    assert np.shape(ask(tiny.client, "/v1/models/dry/predict", inputs=TINY_ROWS)["mean"]) == (3, 2)


def test_equal_logits_go_to_the_first_class(tiny: Server) -> None:
    """A tie between classes goes to the lowest index."""
    answer = ask(tiny.client, "/v1/models/undecided/predict", inputs=TINY_ROWS)
    assert answer["probabilities"] == [[1 / 3] * 3] * 3
    assert answer["labels"] == ["red"] * 3


def test_named_rows_are_listed_rows(server: Server) -> None:
    """Rows keyed by input names, in any order of keys, give the bytes that the same rows as lists give."""
    rows = rows_of(server.client, "diabetes")
    listed = server.client.post(PREDICT, json={"inputs": rows})
    named = server.client.post(PREDICT, json={"inputs": [dict(zip(NAMES, row, strict=True)) for row in rows]})
    backwards = [dict(reversed(list(zip(NAMES, row, strict=True)))) for row in rows]
    assert listed.status_code == 200
    assert named.content == listed.content
    assert server.client.post(PREDICT, json={"inputs": backwards}).content == listed.content


@pytest.mark.parametrize("written", [b"0", b"0.0", b"0e7", b"0.000", b"1e-400"])
def test_how_a_number_is_written_does_not_matter(server: Server, written: bytes) -> None:
    """Integers, exponents and numbers that round to the same float64 give the same bytes."""
    usual = send(server.client, PREDICT, b'{"inputs": [[0.0,0,0,0,0,0,0,0,0,0]]}')
    assert usual.status_code == 200
    assert send(server.client, PREDICT, b'{"inputs": [[%s,0,0,0,0,0,0,0,0,0]]}' % written).content == usual.content


def test_the_versions_path_gives_the_same_bytes(server: Server) -> None:
    """Asking the default version by name changes nothing."""
    body = {"inputs": [ROW]}
    default = server.client.post(PREDICT, json=body)
    assert default.status_code == 200
    assert server.client.post("/v1/models/diabetes/versions/1/predict", json=body).content == default.content


def test_a_row_that_float32_cannot_hold_is_invalid(server: Server) -> None:
    """A finite value that is out of float32's range after standardisation is named and refused."""
    problem = assert_problem(server.client.post(PREDICT, json={"inputs": [ROW, [1e300, *ROW[1:]]]}), 422)
    assert problem["errors"] == [{"field": "inputs[1].age", "message": "too far outside the model's range"}]


@pytest.mark.parametrize("option", ["seed", "samples", "first_sample", "interval", "dropout", "return_draws", "method"])
def test_predict_takes_no_sampling_options(server: Server, option: str) -> None:
    """An option of sample is refused, not dropped: nobody must think that it had an effect."""
    problem = assert_problem(server.client.post(PREDICT, json={"inputs": [ROW], option: 1}), 422)
    assert "unknown field; known are inputs" in problem["detail"]
