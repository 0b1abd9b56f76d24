"""Law 2: sample i does not depend on how many were asked for, nor on where the asking began."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.evaluate import evaluate
from service.engine.query import Committee, Query
from tests.networks import architectures, compiled, engines, module_of, rows_of, seeds


@settings(max_examples=60)
@given(
    engine=engines,
    spec=architectures(),
    seed=seeds,
    first=st.integers(0, 2**50),
    samples=st.integers(2, 60),
    rows=st.integers(1, 12),
    data=st.data(),
)
def test_any_sub_range_is_part_of_the_whole(
    engine: str, spec: Any, seed: int, first: int, samples: int, rows: int, data: st.DataObject
) -> None:
    """The outputs of samples a … b, asked for alone, are bit for bit those of the larger range."""
    network = compiled(spec, module_of(spec), engine)
    inputs = rows_of(rows, spec.inputs)
    whole = evaluate(network, Query(inputs, Committee(seed, samples, first)))
    start = data.draw(st.integers(0, samples - 1))
    stop = data.draw(st.integers(start + 1, samples))
    part = evaluate(network, Query(inputs, Committee(seed, stop - start, first + start)))
    assert np.array_equal(part, whole[start:stop], equal_nan=True)


def test_a_wide_network_and_a_single_row() -> None:
    """The law holds where the first product leaves inactive units out."""
    from tests.networks import ClassificationHead, Mlp

    spec = Mlp(inputs=16, hidden=(256, 256), dropout=0.3, head=ClassificationHead(classes=3))
    network = compiled(spec, module_of(spec))
    row = rows_of(1, 16)
    whole = evaluate(network, Query(row, Committee(5, 300)))
    for start, stop in ((0, 1), (0, 100), (100, 300), (299, 300), (17, 64)):
        part = evaluate(network, Query(row, Committee(5, stop - start, start)))
        assert np.array_equal(part, whole[start:stop])


def test_draws_over_http_continue_where_others_ended(server: Any) -> None:
    """The draws of 100 samples, and of the next 100, are those of 200, number for number."""
    for name, width in (("diabetes", 10), ("digits", 64)):
        path, body = f"/v1/models/{name}/sample", {"inputs": [[0.02] * width] * 2, "seed": 11, "return_draws": True}
        whole = server.client.post(path, json={**body, "samples": 200}).json()["draws"]
        head = server.client.post(path, json={**body, "samples": 100}).json()["draws"]
        tail = server.client.post(path, json={**body, "samples": 100, "first_sample": 100}).json()["draws"]
        assert head + tail == whole
