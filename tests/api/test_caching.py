"""Answers that are kept, over HTTP: the bytes are those that would be computed, in both protocols, whoever asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.access.keys import bearer, make
from tests.api.inside import running
from tests.api.live import Server
from tests.api.stores import publish
from tests.api.test_queue import held_queue
from tests.api.wire import JSON, TINY_ROWS, assert_problem
from tests.telemetry.scrape import scrape_inside, value

SAMPLE = "/v1/models/silent/sample"
SEEDED: dict[str, Any] = {"inputs": TINY_ROWS, "seed": 7}
_ABOUT_THIS_ONE = ("x-request-id", "server-timing", "penumbra-cache", "date")


@pytest.fixture(scope="module")
def pair(tiny_store: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of a service that keeps answers, and of one that computes each."""
    with ExitStack() as started:
        keeping, computing = Server(store=tiny_store), Server(store=tiny_store, answer_cache_bytes=0)
        started.callback(keeping.stop)
        started.callback(computing.stop)
        yield keeping.client, computing.client


def lasting(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """An answer without what is about this one time it was given."""
    return (
        answer.status_code,
        {name: said for name, said in answer.headers.items() if name not in _ABOUT_THIS_ONE},
        answer.content,
    )


ROWS = st.lists(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3), min_size=1, max_size=5)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "first_sample": st.sampled_from([0, 3, 10**9]),
    "interval": st.sampled_from([0.5, 0.9]),
    "quantiles": st.sampled_from([[0.5], [0.05, 0.95]]),
    "dropout": st.sampled_from([0.1, 0.9]),
    "return_draws": st.booleans(),
}
SAMPLES = st.one_of(
    st.sampled_from([1, 2, 33]), st.fixed_dictionaries({"target_stderr": st.just(0.05), "max": st.just(96)})
)


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, str]]:
    """A request that can be asked again, in either protocol: path, body, headers."""
    rows = draw(ROWS)
    options = draw(st.fixed_dictionaries({"seed": st.integers(0, 2**53 - 1)}, optional=OPTIONS))
    if draw(st.booleans()):
        verb = draw(st.sampled_from(["predict", "sample"]))
        body = {"inputs": rows} if verb == "predict" else {"inputs": rows, "samples": draw(SAMPLES), **options}
        return f"/v1/models/{draw(st.sampled_from(['noisy', 'headed']))}/{verb}", body, {}
    parameters = {name: said for name, said in options.items() if name not in ("quantiles", "return_draws")}
    tensor = {"name": "inputs", "shape": [len(rows), 3], "datatype": "FP64", "data": rows}
    body = {
        "inputs": [tensor],
        "parameters": {**parameters, "binary_data_output": draw(st.booleans())},
        **draw(st.fixed_dictionaries({}, optional={"id": st.text("ab", max_size=2)})),
        "outputs": draw(st.sampled_from([[], [{"name": "mean"}], [{"name": "std"}, {"name": "mean"}]])),
    }
    return "/v2/models/noisy/infer", body, {"Content-Type": "application/json"}


@settings(max_examples=60)
@given(asked=questions())
def test_kept_or_computed_the_answer_is_the_same(
    pair: tuple[httpx.Client, httpx.Client], asked: tuple[str, dict[str, Any], dict[str, str]]
) -> None:
    """Status, headers and bytes, with the cache and without; asked for the second time a sampling is there."""
    path, body, headers = asked
    keeping, computing = pair
    first, second = (keeping.post(path, json=body, headers=headers) for _ in range(2))
    plain = computing.post(path, json=body, headers=headers)
    assert plain.status_code == 200, plain.text
    assert lasting(first) == lasting(second) == lasting(plain)
    assert "penumbra-cache" not in plain.headers
    predicted = path.endswith("predict")
    assert second.headers.get("penumbra-cache") == (None if predicted else "hit")
    tagged = {**headers, "If-None-Match": first.headers["etag"]}
    assert keeping.post(path, json=body, headers=tagged).status_code == 304


async def test_how_an_answer_came_is_told_and_counted(tiny_store: Path) -> None:
    """Computed, found, found by other words for the same; what a drawn seed gave is not kept."""
    async with running(store=tiny_store, access_log=False) as (app, client):
        said = [
            (await client.post(SAMPLE, content=body, headers=JSON)).headers.get("penumbra-cache")
            for body in (
                json.dumps(SEEDED),
                json.dumps(SEEDED),
                json.dumps({**SEEDED, "interval": 0.9, "first_sample": 0}),
                json.dumps(SEEDED).replace("0.5", "5e-1"),
                json.dumps({**SEEDED, "seed": 8}),
            )
        ]
        assert said == ["miss", "hit", "hit", "hit", "miss"]
        drawn = await client.post(SAMPLE, json={"inputs": TINY_ROWS})
        assert "penumbra-cache" not in drawn.headers
        again = await client.post(SAMPLE, json={"inputs": TINY_ROWS, "seed": drawn.json()["seed"]})
        assert (again.headers["penumbra-cache"], again.content) == ("miss", drawn.content)
        stats = (await client.get("/v2/models/silent/stats")).json()["model_stats"][0]
        assert stats["inference_stats"]["success"]["count"] == 7
        assert stats["inference_stats"]["cache_hit"]["count"] == 3
        assert stats["execution_count"] == 4
        assert stats["inference_count"] == 4 * len(TINY_ROWS)
        scraped = await scrape_inside(client)
        assert app.state.inference._batcher.computed == 4
    counted = {
        outcome: value(scraped, "penumbra_answer_cache_requests_total", outcome=outcome)
        for outcome in ("hit", "shared", "joined", "miss")
    }
    assert counted == {"hit": 3, "shared": 0, "joined": 0, "miss": 3}
    assert value(scraped, "penumbra_answer_cache_bytes") > 0
    assert (
        value(scraped, "penumbra_requests_total", route="/v1/models/{name}/sample", model="silent", status="200") == 7
    )


async def test_64_at_once_are_computed_once(tiny_store: Path) -> None:
    """In company with others; and 64 whose seeds were drawn are computed each."""
    async with running(store=tiny_store, access_log=False) as (app, client):
        other = {**SEEDED, "seed": 8}
        answers = await asyncio.gather(*(client.post(SAMPLE, json=body) for body in (SEEDED, other) * 64))
        assert app.state.inference._batcher.computed == 2
        assert len({answer.content for answer in answers}) == 2
        assert sorted(answer.headers["penumbra-cache"] for answer in answers) == ["joined"] * 126 + ["miss"] * 2
        await asyncio.gather(*(client.post(SAMPLE, json={"inputs": TINY_ROWS}) for _ in range(64)))
        assert app.state.inference._batcher.computed == 66


async def test_errors_are_not_kept(tiny_store: Path) -> None:
    """What goes wrong for one goes wrong for all who ask the same now, and is computed again for the next."""
    body = {"inputs": TINY_ROWS, "seed": 7}
    async with running(store=tiny_store, access_log=False) as (app, client):
        path = "/v1/models/huge/sample"
        for _ in range(2):
            for answer in await asyncio.gather(*(client.post(path, json=body) for _ in range(3))):
                assert_problem(answer, 422)
                assert "penumbra-cache" not in answer.headers
        stats = (await client.get("/v2/models/huge/stats")).json()["model_stats"][0]["inference_stats"]
        assert [stats[what]["count"] for what in ("success", "fail")] == [0, 6]
        assert_problem(await client.post("/v1/models/dry/sample", json=body), 409)
        assert app.state.inference._answers._flights == {}


async def test_a_full_queue_still_gives_what_is_known(tiny_store: Path) -> None:
    """An answer that is there needs no place in line."""
    async with running(store=tiny_store, access_log=False) as (app, client), held_queue(max_queue=1) as queue:
        known = await client.post(SAMPLE, json=SEEDED)
        app.state.inference._batcher = queue.batcher
        assert (await client.post(SAMPLE, json=SEEDED)).content == known.content
        assert_problem(await client.post(SAMPLE, json={**SEEDED, "seed": 8}), 503)


async def test_a_new_version_never_answers_with_an_older_ones_words(tmp_path: Path) -> None:
    """What a request means is looked up before its answer is."""
    publish(tmp_path, "changing", "1")
    async with running(store=tmp_path, watch_seconds=0, access_log=False) as (_, client):
        path = "/v1/models/changing/sample"
        old = await client.post(path, json=SEEDED)
        publish(tmp_path, "changing", "2")
        assert (await client.post("/v2/repository/models/changing/load")).status_code == 200
        new = await client.post(path, json=SEEDED)
        pinned = await client.post("/v1/models/changing/versions/1/sample", json=SEEDED)
        assert new.json()["model"]["version"] == "2"
        assert new.headers["penumbra-cache"] == "miss"
        assert (pinned.headers["penumbra-cache"], pinned.content) == ("hit", old.content)


async def test_answers_that_must_go_are_counted(tiny_store: Path) -> None:
    """With room for a few, the oldest go, and the room is not exceeded."""
    async with running(store=tiny_store, access_log=False, answer_cache_bytes=100_000) as (app, client):
        for seed in range(20):
            body = {**SEEDED, "seed": seed, "samples": 200, "return_draws": True, "inputs": TINY_ROWS[:1]}
            assert (await client.post(SAMPLE, json=body)).status_code == 200
        scraped = await scrape_inside(client)
        assert value(scraped, "penumbra_answer_cache_evictions_total") == app.state.inference._answers.memory.evictions
    assert value(scraped, "penumbra_answer_cache_evictions_total") > 5
    assert value(scraped, "penumbra_answer_cache_bytes") <= 100_000


def test_keys_are_looked_at_before_answers(
    start_server: Callable[..., Server], tiny_store: Path, tmp_path: Path
) -> None:
    """What one key may ask and was told is not told to one that may not, nor to nobody."""
    made = make(tmp_path / "keys", owner="infer", other="infer:noisy")
    server = start_server(store=tiny_store, keys_file=tmp_path / "keys")
    asked = [server.client.post(SAMPLE, json=SEEDED, headers=bearer(made[name])) for name in ("owner", "owner")]
    assert [answer.headers["penumbra-cache"] for answer in asked] == ["miss", "hit"]
    for headers, status in ((bearer(made["other"]), 403), ({}, 401)):
        refused = server.client.post(SAMPLE, json=SEEDED, headers=headers)
        assert_problem(refused, status)
        assert "penumbra-cache" not in refused.headers


def test_streams_are_computed(tiny_store: Path, pair: tuple[httpx.Client, httpx.Client]) -> None:
    """They end with the bytes that are kept, and don't come from there."""
    keeping, _ = pair
    kept = keeping.post(SAMPLE, json=SEEDED)
    stream = keeping.post(f"{SAMPLE}/stream", json=SEEDED)
    assert "penumbra-cache" not in stream.headers
    assert stream.text.endswith(f"event: answer\ndata: {kept.text}\n\n")
