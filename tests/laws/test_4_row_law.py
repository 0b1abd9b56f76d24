"""Law 4: one mask per sample, shared by all rows: each sample is a function of the row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.evaluate import evaluate
from service.engine.query import Committee, Query
from tests.networks import ClassificationHead, Mlp, RegressionHead, architectures, compiled, module_of, rows_of, seeds


@settings(max_examples=40)
@given(spec=architectures(), seed=seeds, rows=st.integers(2, 20), samples=st.integers(1, 20))
def test_equal_rows_get_equal_draws(spec: Any, seed: int, rows: int, samples: int) -> None:
    """The same row many times in one request has the same outputs at every place, in every sample."""
    network = compiled(spec, module_of(spec))
    inputs = np.repeat(rows_of(1, spec.inputs), rows, axis=0)
    outputs = evaluate(network, Query(inputs, Committee(seed, samples)))
    assert np.array_equal(outputs, np.broadcast_to(outputs[:, :1], outputs.shape), equal_nan=True)


@settings(max_examples=40)
@given(spec=architectures(), seed=seeds, rows=st.integers(2, 20))
def test_a_row_alone_agrees_with_itself_in_company(spec: Any, seed: int, rows: int) -> None:
    """Whatever plan a request's size calls for, a row agrees to 1e-5 relative; with the plan pinned, to the bit."""
    network = compiled(spec, module_of(spec))
    inputs = rows_of(rows, spec.inputs)
    query = Query(inputs, Committee(seed, 20))
    alone = Query(inputs[1:2], Committee(seed, 20))
    free = evaluate(network, query)[:, 1:2]
    np.testing.assert_allclose(evaluate(network, alone), free, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(free).max()))
    pinned = evaluate(network, query, way="tiles")[:, 1:2]
    assert np.array_equal(evaluate(network, alone, way="tiles"), pinned, equal_nan=True)


def test_a_single_row_may_leave_units_out_but_agrees() -> None:
    """A wide ReLU network answers a single row through its active units alone, to 1e-5 of the pinned plan."""
    spec = Mlp(inputs=16, hidden=(256, 256), dropout=0.3, head=ClassificationHead(classes=3))
    network = compiled(spec, module_of(spec))
    row = Query(rows_of(1, 16), Committee(5, 200))
    free, pinned = evaluate(network, row), evaluate(network, row, way="tiles")
    assert not np.array_equal(free, pinned)  # two plans; were they one, this test would show nothing
    np.testing.assert_allclose(free, pinned, rtol=1e-5, atol=1e-5)


def test_samples_are_smooth_curves() -> None:
    """Along a line of close inputs each sample moves little: masks are not drawn anew for each row."""
    spec = Mlp(inputs=1, hidden=(64, 64), dropout=0.5, head=RegressionHead())
    network = compiled(spec, module_of(spec))
    line = np.linspace(-1, 1, 401, dtype=np.float32)[:, None]
    draws = evaluate(network, Query(line, Committee(9, 50)))[..., 0]
    steps = np.abs(np.diff(draws, axis=1)).max()
    spread = draws.std(axis=0).mean()
    assert steps < 0.2 * spread


def test_rows_over_http_do_not_depend_on_their_place(server: Any, start_server: Any) -> None:
    """Rows reversed give answers reversed; alone they agree to 1e-5, and exactly with the plan pinned."""
    rows = [[0.01 * i] * 10 for i in range(-3, 4)]
    for pinned, host in ((False, server), (True, start_server(plan="dense"))):

        def sample(inputs: list[list[float]], host: Any = host) -> list[list[float]]:
            body = {"inputs": inputs, "seed": 5, "samples": 50}
            return host.client.post("/v1/models/diabetes/sample", json=body).json()["mean"]

        forwards = sample(rows)
        assert sample(rows[::-1]) == forwards[::-1]
        for row, expected in zip(rows, forwards, strict=True):
            (alone,) = sample([row])
            assert alone == expected if pinned else np.allclose(alone, expected, rtol=1e-5)
