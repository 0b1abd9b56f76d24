"""Law 6: prediction never samples; sampling touches nothing but dropout; serving updates nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from models.manifest import seal
from models.repository import Repository
from service.engine.evaluate import evaluate
from service.engine.plan import Product
from service.engine.query import Committee, Query
from service.settings import SHIPPED_STORE
from tests.networks import architectures, compiled, engines, module_of, rows_of, seeds


@settings(max_examples=40)
@given(engine=engines, spec=architectures(), seed=seeds)
def test_prediction_is_the_module_in_eval_mode(engine: str, spec: Any, seed: int) -> None:
    """The full network's outputs are those of module.eval(), whatever was sampled before."""
    module = module_of(spec)
    network = compiled(spec, module, engine)
    rows = rows_of(9, spec.inputs)
    evaluate(network, Query(rows, Committee(seed, 3)))
    with torch.no_grad():
        expected = module(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(evaluate(network, Query(rows))[0], expected, rtol=1e-5, atol=2e-5)


@settings(max_examples=30)
@given(engine=engines, spec=architectures(), seed=seeds)
def test_sampling_without_dropout_is_prediction(engine: str, spec: Any, seed: int) -> None:
    """With p = 0 everywhere every sample is the full network: batch normalisation stays on its running statistics."""
    network = compiled(spec, module_of(spec), engine)
    rows = rows_of(4, spec.inputs)
    sampled = evaluate(network, Query(rows, Committee(seed, 3, p=0.0)))
    full = evaluate(network, Query(rows))
    assert np.array_equal(sampled, np.broadcast_to(full, sampled.shape), equal_nan=True)


def test_ten_thousand_requests_update_nothing() -> None:
    """Weights and batch statistics are bit-identical after 10,000 sampling requests."""
    model = Repository(SHIPPED_STORE).load("digits")
    before = {name: tensor.clone() for name, tensor in model.tensors.items()}
    network = compiled(model.manifest.architecture, _Tensors(model.tensors))
    folded = [(step.weight.clone(), step.bias.clone()) for step in network.steps if isinstance(step, Product)]
    row = rows_of(1, 64)
    for seed in range(10_000):
        evaluate(network, Query(row, Committee(seed, 2)))
    assert all(torch.equal(model.tensors[name], tensor) for name, tensor in before.items())
    products = [step for step in network.steps if isinstance(step, Product)]
    assert all(torch.equal(p.weight, w) and torch.equal(p.bias, b) for p, (w, b) in zip(products, folded, strict=True))


class _Tensors:
    """Stands in for a module where only its state dict is asked for."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors

    def state_dict(self) -> Any:
        return self._tensors


def test_the_callers_rows_are_left_alone() -> None:
    """Neither the rows of a query nor the compiled weights are ever written to."""
    from tests.networks import Mlp, RegressionHead

    spec = Mlp(inputs=5, hidden=(16,), dropout=0.5, input_dropout=0.5, inplace=True, head=RegressionHead())
    rows = rows_of(3, 5)
    rows.setflags(write=False)
    evaluate(compiled(spec, module_of(spec)), Query(rows, Committee(1, 10)))
    assert np.array_equal(rows, rows_of(3, 5))


def test_prediction_over_http_has_no_seed_and_repeats(server: Any) -> None:
    """Predict gives one body however often it is asked, and refuses a seed."""
    body = {"inputs": [[0.5] * 64]}
    sampled = {**body, "seed": 1, "samples": 5}
    answers = set()
    for _ in range(5):
        answers.add(server.client.post("/v1/models/digits/predict", json=body).content)
        assert server.client.post("/v1/models/digits/sample", json=sampled).status_code == 200
    assert len(answers) == 1
    assert server.client.post("/v1/models/digits/predict", json=sampled).status_code == 422


@pytest.fixture
def dry_store(tmp_path: Path) -> Path:
    """A store with one model that has p = 0 everywhere."""
    shipped = Repository(SHIPPED_STORE).load("diabetes")
    manifest = shipped.manifest
    dry = manifest.architecture.model_copy(update={"dropout": (0.0, 0.0), "input_dropout": 0.0})
    weights = (SHIPPED_STORE / "diabetes" / manifest.version / "weights.safetensors").read_bytes()
    sealed = seal(
        name="dry",
        version="1",
        task="regression",
        weights_sha256=manifest.weights_sha256,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        architecture=dry,
    )
    Repository(tmp_path).publish(sealed, weights)
    return tmp_path


def test_no_active_dropout_is_an_error_not_a_zero(start_server: Any, dry_store: Path) -> None:
    """A model with p = 0 everywhere answers sample with 409; with a what-if p it samples, even at p = 1."""
    server = start_server(store=dry_store)
    body = {"inputs": [[0.1] * 10], "seed": 1, "samples": 10}
    refused = server.client.post("/v1/models/dry/sample", json=body)
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert server.client.post("/v1/models/dry/predict", json={"inputs": body["inputs"]}).status_code == 200
    wet = server.client.post("/v1/models/dry/sample", json={**body, "dropout": 0.5}).json()
    assert wet["epistemic_std"][0][0] > 0
    gone = server.client.post("/v1/models/dry/sample", json={**body, "dropout": 1.0}).json()
    assert np.isfinite(gone["mean"][0][0])
    assert gone["epistemic_std"] == [[0.0]]
