"""Law 7: the fast engine equals a plain loop over the same masks, and nn.Dropout in distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.layers import dropout_sites
from models.repository import Repository
from service.engine import reference
from service.engine.evaluate import evaluate
from service.engine.query import Committee, Query
from service.settings import SHIPPED_STORE
from tests.networks import ClassificationHead, Mlp, architectures, compiled, engines, module_of, rows_of, seeds


@settings(max_examples=150)
@given(
    engine=engines,
    spec=architectures(),
    seed=seeds,
    first=st.integers(0, 10**9),
    samples=st.integers(1, 12),
    rows=st.integers(1, 12),
    what_if=st.one_of(st.none(), st.floats(0.0, 1.0)),
)
def test_the_engine_equals_the_loop(
    engine: str, spec: Any, seed: int, first: int, samples: int, rows: int, what_if: float | None
) -> None:
    """Every architecture, seed, range and what-if: engine and reference agree to 1e-5 relative."""
    module = module_of(spec)
    network = compiled(spec, module, engine)
    query = Query(rows_of(rows, spec.inputs), Committee(seed, samples, first, what_if))
    expected = reference.evaluate(module, network.site_widths, query)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(evaluate(network, query), expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(("rows", "samples"), [(1, 300), (3, 200), (70, 20), (600, 3), (1100, 2)])
def test_large_queries_equal_the_loop(rows: int, samples: int) -> None:
    """Queries that take many tiles, in samples and in rows, agree too."""
    spec = Mlp(
        inputs=12, hidden=(200, 200), dropout=0.4, norm="batch", residual=True, head=ClassificationHead(classes=5)
    )
    module = module_of(spec)
    network = compiled(spec, module)
    query = Query(rows_of(rows, 12), Committee(77, samples))
    expected = reference.evaluate(module, network.site_widths, query)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(evaluate(network, query), expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_moments_equal_those_of_train_mode_dropout(p: float) -> None:
    """Mean and variance over 20,000 samples equal nn.Dropout's in train mode within Monte Carlo error."""
    spec = Mlp(inputs=6, hidden=(32, 32), dropout=p, head=ClassificationHead(classes=4))
    module, samples = module_of(spec), 20_000
    rows = rows_of(3, 6)
    ours = evaluate(compiled(spec, module), Query(rows, Committee(1, samples))).astype(np.float64)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.train()
        # Train-mode dropout draws a mask per row, so that every copy of a row is a sample of its own.
        theirs = torch.stack([module(torch.from_numpy(row).expand(samples, -1)) for row in rows], 1).double().numpy()
    spread = theirs.std(axis=0)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * spread * np.sqrt(2 / samples)).all()
    # The variance's own standard error, with the fourth moment as it is: sqrt((m4 − s⁴) / n).
    fourth = ((theirs - theirs.mean(0)) ** 4).mean(0)
    error = np.sqrt((fourth - spread**4) * 2 / samples)
    assert (np.abs(ours.var(0) - theirs.var(0)) < 5 * error).all()


@pytest.mark.parametrize("name", Repository(SHIPPED_STORE).names())
def test_draws_over_http_equal_the_loop(server: Any, name: str) -> None:
    """What the service returns as draws is what the plain loop gives, in raw units, for every shipped model."""
    model = Repository(SHIPPED_STORE).load(name)
    manifest = model.manifest
    rows = np.array([[(f.range[0] * (3 - i) + f.range[1] * i) / 3 for f in manifest.inputs] for i in range(4)])
    body = {"inputs": rows.tolist(), "seed": 21, "samples": 30, "return_draws": True}
    draws = np.array(server.client.post(f"/v1/models/{name}/sample", json=body).json()["draws"])

    mean, scale = (np.array([getattr(f, part) for f in manifest.inputs]) for part in ("mean", "scale"))
    query = Query(((rows - mean) / scale).astype(np.float32), Committee(21, 30))
    module = module_of(manifest.architecture)
    module.load_state_dict(dict(model.networks[0]))
    widths = tuple(site.width for site in dropout_sites(manifest.architecture.layers()))
    outputs = reference.evaluate(module, widths, query).astype(np.float64)
    if manifest.task == "classification":
        odds = np.exp(outputs / (manifest.calibration.temperature or 1.0))
        expected = odds / odds.sum(-1, keepdims=True)
    else:
        targets = manifest.targets
        expected = outputs[..., : len(targets)] * [t.scale for t in targets] + [t.mean for t in targets]
    np.testing.assert_allclose(draws, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
