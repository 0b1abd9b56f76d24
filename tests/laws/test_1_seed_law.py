"""Law 1: the same request gives the same bytes: now, at any concurrency, after a restart, from another worker."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.repository import Repository
from service.engine.evaluate import evaluate, evaluation
from service.engine.query import Committee, Query
from service.engine.workspace import Workspace
from service.settings import SHIPPED_STORE
from tests.networks import architectures, compiled, engines, mlps, module_of, rows_of, seeds

CONCURRENCY = 48
REQUESTS = 1500
FIXED = 15

MODELS = {name: Repository(SHIPPED_STORE).load(name).manifest for name in Repository(SHIPPED_STORE).names()}
# Of ten requests one is for a model of several networks, or for a large one.
SMALL = ("breast-cancer", "diabetes", "digits")
NAMES = (*SMALL * 6, *sorted(MODELS.keys() - set(SMALL)))


def request_of(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """A valid request: (model, verb, body), with rows within the ranges seen in training."""
    name = rng.choice(NAMES)
    manifest = MODELS[name]
    rows = [
        [rng.uniform(*feature.range) for feature in manifest.inputs] for _ in range(rng.choice((1, 1, 2, 3, 8, 33)))
    ]
    if rng.random() < 0.2:
        return name, "predict", {"inputs": rows}
    body: dict[str, Any] = {
        "inputs": rows,
        "seed": rng.randrange(2**53),
        "samples": rng.choice((1, 7, 16, 100, 101, 250)),
    }
    if rng.random() < 0.3:
        body["first_sample"] = rng.choice((1, 100, 10**12))
    if rng.random() < 0.2:
        body["dropout"] = rng.choice((0.05, 0.5, 1.0))
    if rng.random() < 0.2:
        body["return_draws"] = True
    if rng.random() < 0.2 and manifest.task == "regression":
        body["quantiles"] = [0.1, 0.5]
    return name, "sample", body


def path_of(request: tuple[str, str, dict[str, Any]]) -> str:
    """Where a request goes."""
    return f"/v1/models/{request[0]}/{request[1]}"


@settings(max_examples=40)
@given(engine=engines, spec=architectures(), seed=seeds, samples=st.integers(1, 40), rows=st.integers(1, 20))
def test_engine_repeats_itself(engine: str, spec: Any, seed: int, samples: int, rows: int) -> None:
    """Evaluating a query twice, with other queries in between and in used buffers, gives the same bits."""
    network = compiled(spec, module_of(spec), engine)
    query = Query(rows_of(rows, spec.inputs), Committee(seed, samples))
    first = evaluate(network, query)
    workspace = Workspace()
    for each in (Query(rows_of(50, spec.inputs, 1), Committee(seed + 1, 9)), query):
        begun = evaluation(network, [each])
        for stage in begun.stages():
            for piece in stage:
                piece(workspace)
    assert np.array_equal(first, begun.of(0), equal_nan=True)


@settings(max_examples=20)
@given(engine=engines, spec=mlps(), one=seeds, other=seeds)
def test_the_seed_is_used(engine: str, spec: Any, one: int, other: int) -> None:
    """Two seeds name two committees, wherever there are enough units for their masks to differ."""
    spec = spec.model_copy(
        update={"dropout": (0.5,) * len(spec.hidden), "hidden": (64,) * len(spec.hidden), "norm": "none"}
    )
    network = compiled(spec, module_of(spec), engine)
    outputs = [evaluate(network, Query(rows_of(2, spec.inputs), Committee(seed, 8))) for seed in (one, other)]
    assert (one == other) == np.array_equal(*outputs)


async def storm(url: str, requests: list[tuple[str, str, dict[str, Any]]]) -> list[bytes]:
    """Sends all requests, CONCURRENCY at a time; their bodies in order."""
    gate = asyncio.Semaphore(CONCURRENCY)
    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:

        async def send(request: tuple[str, str, dict[str, Any]]) -> bytes:
            async with gate:
                answer = await client.post(path_of(request), json=request[2])
            assert answer.status_code == 200, answer.text
            return answer.content

        return await asyncio.gather(*map(send, requests))


@pytest.mark.slow
def test_fixed_requests_hidden_in_a_storm(server: Any, start_server: Callable[..., Any]) -> None:
    """1,500 requests at concurrency 48: each of 15 fixed ones has one body, alone, in company and after a restart."""
    rng = random.Random(20260101)
    fixed = [request_of(rng) for _ in range(FIXED)]
    requests = [fixed[i % FIXED] if i % 4 == 0 else request_of(rng) for i in range(REQUESTS)]
    rng.shuffle(requests)
    alone = [server.client.post(path_of(request), json=request[2]).content for request in fixed]

    bodies = defaultdict(set)
    for request, body in zip(requests, asyncio.run(storm(server.url, requests)), strict=True):
        bodies[json.dumps(request)].add(body)
    for request, body in zip(fixed, alone, strict=True):
        assert bodies[json.dumps(request)] == {body}

    another = start_server(threads=1)
    assert [another.client.post(path_of(request), json=request[2]).content for request in fixed] == alone


@pytest.mark.slow
def test_workers_and_threads_do_not_matter(server: Any, start_server: Callable[..., Any]) -> None:
    """Two workers with two threads each give the bytes of one worker, whichever of them answers."""
    rng = random.Random(7)
    fixed = [request_of(rng) for _ in range(8)]
    many = start_server(workers=2, threads=2)
    for request in fixed:
        expected = server.client.post(path_of(request), json=request[2]).content
        for _ in range(4):  # new connections, so that both workers get some
            assert httpx.post(many.url + path_of(request), json=request[2], timeout=60).content == expected


def test_an_omitted_seed_is_drawn_used_and_returned(server: Any) -> None:
    """Two unseeded requests get two seeds, and asking again with the returned seed gives the same body."""
    body = {"inputs": [[0.01] * 10], "samples": 20}
    first, second = (server.client.post("/v1/models/diabetes/sample", json=body) for _ in range(2))
    assert first.json()["seed"] != second.json()["seed"]
    again = server.client.post("/v1/models/diabetes/sample", json={**body, "seed": first.json()["seed"]})
    assert again.content == first.content
