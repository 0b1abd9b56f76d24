"""Law 4: one mask per sample, shared by all rows: each sample is a function of the row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.evaluate import evaluate
from service.engine.query import Committee, Query
from tests.networks import Mlp, RegressionHead, architectures, compiled, engines, module_of, rows_of, seeds


@settings(max_examples=40)
@given(engine=engines, spec=architectures(), seed=seeds, rows=st.integers(2, 20), samples=st.integers(1, 20))
def test_equal_rows_get_equal_draws(engine: str, spec: Any, seed: int, rows: int, samples: int) -> None:
    """The same row many times in one request has the same outputs at every place, in every sample."""
    network = compiled(spec, module_of(spec), engine)
    inputs = np.repeat(rows_of(1, spec.inputs), rows, axis=0)
    outputs = evaluate(network, Query(inputs, Committee(seed, samples)))
    assert np.array_equal(outputs, np.broadcast_to(outputs[:, :1], outputs.shape), equal_nan=True)


@settings(max_examples=40)
@given(engine=engines, spec=architectures(), seed=seeds, rows=st.integers(2, 200), data=st.data())
def test_a_row_alone_agrees_with_itself_in_company(
    engine: str, spec: Any, seed: int, rows: int, data: st.DataObject
) -> None:
    """However many rows a request has, each gets to the bit what it gets alone."""
    network = compiled(spec, module_of(spec), engine)
    inputs, committee, row = rows_of(rows, spec.inputs), Committee(seed, 20), data.draw(st.integers(0, rows - 1))
    together = evaluate(network, Query(inputs, committee))[:, row : row + 1]
    assert np.array_equal(evaluate(network, Query(inputs[row : row + 1], committee)), together, equal_nan=True)


def test_samples_are_smooth_curves() -> None:
    """Along a line of close inputs each sample moves little: masks are not drawn anew for each row."""
    spec = Mlp(inputs=1, hidden=(64, 64), dropout=0.5, head=RegressionHead())
    network = compiled(spec, module_of(spec))
    line = np.linspace(-1, 1, 401, dtype=np.float32)[:, None]
    draws = evaluate(network, Query(line, Committee(9, 50)))[..., 0]
    steps = np.abs(np.diff(draws, axis=1)).max()
    spread = draws.std(axis=0).mean()
    assert steps < 0.2 * spread


def test_rows_over_http_do_not_depend_on_their_place(server: Any) -> None:
    """Rows reversed give answers reversed; alone each has the same numbers, to the last digit."""
    rows = [[0.01 * i] * 10 for i in range(-3, 4)]

    def sample(inputs: list[list[float]]) -> list[list[float]]:
        body = {"inputs": inputs, "seed": 5, "samples": 50}
        return server.client.post("/v1/models/diabetes/sample", json=body).json()["mean"]

    forwards = sample(rows)
    assert sample(rows[::-1]) == forwards[::-1]
    assert [sample([row])[0] for row in rows] == forwards
