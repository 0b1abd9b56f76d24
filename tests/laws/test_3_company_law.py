"""Law 3: what else is being evaluated never changes an answer: to the bit, not closely."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batcher
from service.engine.evaluate import evaluate, evaluation
from service.engine.evaluation import Piece
from service.engine.mask_cache import MaskCache
from service.engine.plan import Network
from service.engine.query import Committee, Query
from service.engine.workspace import Workspace
from tests.networks import architectures, compiled, engines, module_of, rows_of, seeds


@settings(max_examples=60)
@given(
    engine=engines,
    spec=architectures(),
    seed=seeds,
    rows=st.integers(1, 40),
    samples=st.integers(1, 30),
    data=st.data(),
)
def test_other_rows_do_not_matter(
    engine: str, spec: Any, seed: int, rows: int, samples: int, data: st.DataObject
) -> None:
    """Any sub-set of rows, in any order, gets bit for bit what it gets in the whole, sampled or predicted."""
    network = compiled(spec, module_of(spec), engine)
    inputs = rows_of(rows, spec.inputs)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    for committee in (None, Committee(seed, samples)):
        whole = evaluate(network, Query(inputs, committee))
        part = evaluate(network, Query(inputs[chosen], committee))
        assert np.array_equal(part, whole[:, chosen], equal_nan=True)


@settings(max_examples=30)
@given(engine=engines, spec=architectures(), seed=seeds, poison=st.sampled_from([np.nan, np.inf, 3e38]))
def test_a_poisoned_neighbour_does_not_matter(engine: str, spec: Any, seed: int, poison: float) -> None:
    """A row of NaN or infinity spoils its own outputs only."""
    network = compiled(spec, module_of(spec), engine)
    inputs = rows_of(7, spec.inputs)
    sick = inputs.copy()
    sick[3] = poison
    healthy = [0, 1, 2, 4, 5, 6]
    for committee in (None, Committee(seed, 5)):
        expected = evaluate(network, Query(inputs, committee))[:, healthy]
        assert np.array_equal(evaluate(network, Query(sick, committee))[:, healthy], expected, equal_nan=True)


@settings(max_examples=30)
@given(engine=engines, spec=architectures(), seed=seeds, threads=st.integers(1, 7), order=st.randoms())
def test_how_the_work_is_cut_does_not_matter(engine: str, spec: Any, seed: int, threads: int, order: Any) -> None:
    """Pieces cut for any number of threads, done in any order with used buffers, give the same bits."""
    network = compiled(spec, module_of(spec), engine)
    query = Query(rows_of(5, spec.inputs), Committee(seed, 700))
    begun, workspace = evaluation(network, [query], threads), Workspace()
    for stage in begun.stages():
        pieces = list(stage)
        order.shuffle(pieces)
        for piece in pieces:
            piece(workspace)
    assert np.array_equal(begun.of(0), evaluate(network, query), equal_nan=True)


@settings(max_examples=60)
@given(
    engine=engines,
    spec=architectures(),
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=2, max_size=12),
    what_if=st.one_of(st.none(), st.floats(0.01, 1.0)),
    cached=st.booleans(),
)
def test_queries_in_one_evaluation_do_not_matter_to_each_other(
    engine: str, spec: Any, sizes: list[tuple[int, int]], what_if: float | None, cached: bool
) -> None:
    """Committees of any seeds, ranges and rows evaluated together get bit for bit what each gets alone."""
    network = compiled(spec, module_of(spec), engine)
    queries = [
        Query(rows_of(rows, spec.inputs, i), Committee(i % 5, samples, 3 * i, what_if))
        for i, (rows, samples) in enumerate(sizes)
    ]
    cache = MaskCache(10_000) if cached else None
    for asked in (queries, queries[::-1], [Query(query.rows) for query in queries]):
        begun, workspace = evaluation(network, asked, cache=cache), Workspace()
        for stage in begun.stages():
            for piece in stage:
                piece(workspace)
        for place, query in enumerate(asked):
            assert np.array_equal(begun.of(place), evaluate(network, query), equal_nan=True)


class Asked:
    """A query as a job for the batcher; those of one network are evaluated together."""

    failure = None

    def __init__(self, network: Network, query: Query, seconds: float) -> None:
        self.network, self.query, self.seconds = network, query, seconds
        self.company = id(network)
        self.outputs: Any = None

    def stages(self, company: Sequence[Asked], threads: int) -> Iterator[Sequence[Piece]]:
        """See `batching.Job`."""
        begun = evaluation(self.network, [job.query for job in company], threads)
        yield from begun.stages()
        for place, job in enumerate(company):
            job.outputs = begun.of(place)


@settings(max_examples=10)
@given(
    specs=st.lists(architectures(), min_size=1, max_size=3),
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 80)), min_size=2, max_size=12),
)
def test_company_in_the_queue_does_not_matter(specs: list[Any], sizes: list[tuple[int, int]]) -> None:
    """Queries of several networks, some on the event loop and some on threads, give what they give alone."""
    networks = [compiled(spec, module_of(spec)) for spec in specs]
    jobs = [
        Asked(
            networks[i % len(networks)],
            Query(rows_of(rows, specs[i % len(specs)].inputs, i), Committee(i, samples)),
            seconds=1e-4 if i % 3 else 1.0,
        )
        for i, (rows, samples) in enumerate(sizes)
    ]
    batcher = Batcher(threads=2, max_queue=100)

    async def together() -> None:
        await asyncio.gather(*(batcher.run(job, 60) for job in jobs))

    try:
        asyncio.run(together())
        for job in jobs:
            assert np.array_equal(job.outputs, evaluate(job.network, job.query), equal_nan=True)
        assert batcher.computed == len(jobs)
        assert batcher.companies <= len(networks)
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
