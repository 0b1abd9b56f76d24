"""Law 3: what else is being evaluated never changes an answer: to the bit, not closely."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batcher
from service.engine.evaluate import Evaluation, evaluate
from service.engine.query import Committee, Query
from service.engine.tiles import Workspace
from tests.networks import architectures, compiled, module_of, rows_of, seeds


@settings(max_examples=60)
@given(spec=architectures(), seed=seeds, rows=st.integers(1, 40), samples=st.integers(1, 30), data=st.data())
def test_other_rows_do_not_matter(spec: Any, seed: int, rows: int, samples: int, data: st.DataObject) -> None:
    """Any sub-set of rows, in any order, gets bit for bit what it gets in the whole, sampled or predicted."""
    network = compiled(spec, module_of(spec))
    inputs = rows_of(rows, spec.inputs)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    for committee in (None, Committee(seed, samples)):
        whole = evaluate(network, Query(inputs, committee), dense=True)
        part = evaluate(network, Query(inputs[chosen], committee), dense=True)
        assert np.array_equal(part, whole[:, chosen], equal_nan=True)


@settings(max_examples=30)
@given(spec=architectures(), seed=seeds, poison=st.sampled_from([np.nan, np.inf, 3e38]))
def test_a_poisoned_neighbour_does_not_matter(spec: Any, seed: int, poison: float) -> None:
    """A row of NaN or infinity spoils its own outputs only."""
    network = compiled(spec, module_of(spec))
    inputs = rows_of(7, spec.inputs)
    sick = inputs.copy()
    sick[3] = poison
    healthy = [0, 1, 2, 4, 5, 6]
    for committee in (None, Committee(seed, 5)):
        expected = evaluate(network, Query(inputs, committee))[:, healthy]
        assert np.array_equal(evaluate(network, Query(sick, committee))[:, healthy], expected, equal_nan=True)


@settings(max_examples=30)
@given(spec=architectures(), seed=seeds, threads=st.integers(1, 7), order=st.randoms())
def test_how_the_work_is_cut_does_not_matter(spec: Any, seed: int, threads: int, order: Any) -> None:
    """Pieces cut for any number of threads, done in any order with used buffers, give the same bits."""
    network = compiled(spec, module_of(spec))
    query = Query(rows_of(5, spec.inputs), Committee(seed, 700))
    evaluation, workspace = Evaluation(network, query, threads), Workspace()
    for stage in evaluation.stages():
        pieces = list(stage)
        order.shuffle(pieces)
        for piece in pieces:
            piece(workspace)
    assert np.array_equal(evaluation.outputs, evaluate(network, query), equal_nan=True)


@settings(max_examples=10)
@given(
    specs=st.lists(architectures(), min_size=1, max_size=3),
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 80)), min_size=2, max_size=12),
)
def test_company_in_the_queue_does_not_matter(specs: list[Any], sizes: list[tuple[int, int]]) -> None:
    """Queries of several networks, evaluated side by side on two threads, give what they give alone."""
    networks = [compiled(spec, module_of(spec)) for spec in specs]
    queries = [
        (networks[i % len(networks)], Query(rows_of(rows, specs[i % len(specs)].inputs, i), Committee(i, samples)))
        for i, (rows, samples) in enumerate(sizes)
    ]
    batcher = Batcher(threads=2, max_queue=100)

    async def together() -> list[Any]:
        evaluations = [Evaluation(network, query, 2) for network, query in queries]
        await asyncio.gather(*(batcher.run(iter(evaluation.stages()), 60) for evaluation in evaluations))
        return [evaluation.outputs for evaluation in evaluations]

    try:
        for outputs, (network, query) in zip(asyncio.run(together()), queries, strict=True):
            assert np.array_equal(outputs, evaluate(network, query), equal_nan=True)
    finally:
        batcher.close()


def test_bad_neighbours_over_http_do_not_matter(server: Any) -> None:
    """A seeded request keeps its bytes while bad, huge and unknown requests arrive beside it."""
    good = {"inputs": [[0.03] * 10] * 3, "seed": 3, "samples": 60}
    expected = server.client.post("/v1/models/diabetes/sample", json=good).content
    bad: list[Any] = [
        {"inputs": [[1e300] * 10], "seed": 3},
        {"inputs": [["x"] * 10], "seed": 3},
        {"inputs": [[0.0] * 10], "samples": 10**9},
        {"inputs": [[1e30] * 10] * 50, "seed": 4, "samples": 400},
    ]

    async def storm() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            path = "/v1/models/diabetes/sample"
            return await asyncio.gather(
                *(client.post(path, json=good if i % 3 == 0 else bad[i % len(bad)]) for i in range(120))
            )

    answers = asyncio.run(storm())
    assert {answer.content for answer in answers[::3]} == {expected}
    assert {answer.status_code for answer in answers} <= {200, 422}
