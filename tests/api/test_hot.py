"""The way past the framework: the same answers as through it, ids for all, and callers who hang up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.access.callers import ANYONE
from service.api.edge import Exchange
from service.errors import BodyTooLarge, MalformedRequest
from tests.api.inside import running
from tests.api.live import Server
from tests.api.wire import PREDICT, ROW, SAMPLE, TINY_ROWS, assert_problem

TENSOR = {"name": "inputs", "shape": [1, 3], "datatype": "FP64", "data": TINY_ROWS[0]}
HOT = [("/v1/models/diabetes", "predict"), ("/v1/models/diabetes", "sample"), ("/v2/models/diabetes", "infer")]
SEEDED: dict[str, Any] = {"inputs": [ROW], "seed": 7, "samples": 5}


def exchange(receive: Callable[[], Awaitable[Message]], *headers: tuple[bytes, bytes]) -> Exchange:
    """A request by hand, with a body called JSON."""
    scope = {
        "headers": [(b"content-type", b"application/json"), *headers],
        "state": {"request_id": b"by-hand", "caller": ANYONE},
        "path_params": {},
        "app": type("App", (), {"state": None}),
    }
    return Exchange(scope, receive)


def saying(*messages: Message) -> Callable[[], Awaitable[Message]]:
    """A `receive` that says these, one after the other, and then nothing for ever."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.get_running_loop().create_future()
        return left.pop(0)

    return receive


def part(body: bytes, *, more: bool = False) -> Message:
    """A part of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_caller_who_waits_is_not_gone() -> None:
    """Asked over and over, a connection on which nothing happens is one on which somebody waits."""
    asked = exchange(saying())
    assert [asked.gone() for _ in range(3)] == [False] * 3


async def test_a_caller_who_hung_up_is_gone() -> None:
    """A disconnect is seen at once, without giving way to anybody else."""
    asked, others = exchange(saying({"type": "http.disconnect"})), asyncio.Event()
    asyncio.get_running_loop().call_soon(others.set)
    assert asked.gone()
    assert not others.is_set()


async def test_asking_leaves_nothing_behind() -> None:
    """Who asked before the caller hung up learns of it when asking again; no waiter is left on the connection."""
    hung_up, waiting = asyncio.Event(), []

    async def receive() -> Message:
        waiting.append("in")
        try:
            await hung_up.wait()
        finally:
            waiting.append("out")
        return {"type": "http.disconnect"}

    asked = exchange(receive)
    assert not asked.gone()
    assert waiting == ["in", "out"]
    hung_up.set()
    assert asked.gone()
    assert waiting == ["in", "out"] * 2


async def test_what_is_said_after_the_body_is_no_farewell() -> None:
    """A server that sends one more, empty part of the body has not hung up."""
    assert not exchange(saying(part(b""))).gone()


@pytest.mark.parametrize("cuts", [[], [0], [5], [1, 1, 9, 13]])
async def test_a_body_is_read_in_whatever_parts_it_comes(cuts: list[int]) -> None:
    """One part or many, empty ones among them, are one body."""
    body = b'{"inputs": [[1]]}'
    ends = [0, *cuts, len(body)]
    parts = [body[start:end] for start, end in pairwise(ends)]
    messages = [part(piece, more=number < len(parts) - 1) for number, piece in enumerate(parts)]
    assert await exchange(saying(*messages)).read(len(body), dict) == {"inputs": [[1]]}
    with pytest.raises(BodyTooLarge):
        await exchange(saying(*messages)).read(len(body) - 1, dict)


async def test_a_body_that_is_announced_as_too_large_is_not_even_asked_for() -> None:
    """With a Content-Length over the limit nothing is received."""

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    with pytest.raises(BodyTooLarge):
        await exchange(receive, (b"content-length", b"11")).read(10, dict)


async def test_a_body_that_is_cut_off_is_nobodys() -> None:
    """A caller who hangs up in the middle of the body ends the request."""
    with pytest.raises(ClientDisconnect):
        await exchange(saying(part(b"{", more=True), {"type": "http.disconnect"})).read(10, dict)


async def test_of_two_equal_headers_the_first_counts() -> None:
    """As everywhere else in the service."""
    asked = exchange(saying(), (b"x-deadline-ms", b"5"), (b"x-deadline-ms", b"canary"))
    assert asked.patience(30_000) <= 0.005
    with pytest.raises(MalformedRequest):
        exchange(saying(), (b"x-deadline-ms", b"canary"), (b"x-deadline-ms", b"5")).patience(30_000)


async def test_a_deadline_counts_from_when_the_request_began() -> None:
    """What has passed of it while the body came is gone; where nothing is sent, only the wait is bounded."""
    asked = exchange(saying(), (b"x-deadline-ms", b"5000"))
    asked.began -= 6
    assert -2 < asked.patience(30_000) <= -1
    without = exchange(saying())
    without.began -= 6
    assert without.patience(30_000) == 30


async def test_the_short_cut_and_the_router_lead_to_the_same_answer(tiny_store: Path) -> None:
    """Without its short cuts the application gives the same answers, errors and bugs included, one id each."""
    requests: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("/v1/models/silent/predict", {"inputs": TINY_ROWS}, {}),
        ("/v1/models/silent/versions/1/predict", {"inputs": TINY_ROWS}, {}),
        ("/v1/models/colours/sample", {"inputs": TINY_ROWS, "seed": 7}, {}),
        ("/v1/models/colours/versions/1/sample", {"inputs": TINY_ROWS, "seed": 7}, {}),
        ("/v1/models/colours/sample", {"inputs": [[1]]}, {}),
        ("/v1/models/none/predict", {}, {}),
        ("/v1/models/silent/predict", {"inputs": TINY_ROWS}, {"X-Deadline-Ms": "0"}),
        ("/v2/models/silent/infer", {"inputs": [TENSOR]}, {}),
        ("/v2/models/silent/versions/1/infer", {"inputs": [TENSOR], "parameters": {"seed": 7}}, {}),
        ("/v2/models/silent/infer", {"inputs": []}, {}),
        ("/v2/models/none/infer", {}, {}),
        ("/v2/repository/index", {"ready": True}, {}),
    ]
    async with running(store=tiny_store, answer_cache_bytes=0) as (app, client):

        async def answers() -> list[Any]:
            found = []
            for path, body, headers in requests:
                answer = await client.post(path, json=body, headers={**headers, "X-Request-ID": "mine"})
                assert answer.headers.get_list("x-request-id") == ["mine"]
                kept = {name: value for name, value in answer.headers.items() if name != "server-timing"}
                found.append((answer.status_code, kept, answer.content))
            return found

        short = await answers()
        assert {status for status, *_ in short} == {200, 400, 404, 422}
        assert app._hot  # type: ignore[attr-defined]
        app._hot.clear()  # type: ignore[attr-defined]
        assert await answers() == short


async def test_a_bug_is_answered_and_then_raised(tiny_store: Path) -> None:
    """The server gets the exception that the caller is not told of: it logs it, and drops the connection."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("canary")

    async with running(store=tiny_store) as (app, _):
        app.state.inference.predict = fail
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            with pytest.raises(ZeroDivisionError, match="canary"):
                await client.post("/v1/models/silent/predict", json={"inputs": TINY_ROWS})


async def test_a_bug_is_told_in_the_protocols_words(tiny_store: Path) -> None:
    """Under /v2 it has the form of the protocol, with the request's id and nothing else."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("canary")

    async with running(store=tiny_store) as (app, client):
        app.state.inference.predict = fail
        answer = await client.post(
            "/v2/models/silent/infer", json={"inputs": [TENSOR]}, headers={"X-Request-ID": "mine"}
        )
        assert answer.status_code == 500
        assert answer.json() == {"error": "an internal error; please report it with the request id mine"}


def test_made_ids_are_unique(server: Server) -> None:
    """A thousand answers, hot and other, have a thousand ids."""
    made = [
        answer.headers["x-request-id"]
        for _ in range(250)
        for answer in (
            server.client.post(PREDICT, json={"inputs": [ROW]}),
            server.client.post(PREDICT, json={}),
            server.client.get("/health/live"),
            server.client.get(PREDICT),
        )
    ]
    assert len(set(made)) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


async def test_two_workers_make_different_ids(tiny_store: Path) -> None:
    """What one process counts up from is not what another does, so that their ids never meet."""
    made = []
    for _ in range(2):
        async with running(store=tiny_store) as (_, client):
            made.append([(await client.get("/health/live")).headers["x-request-id"] for _ in range(3)])
    assert not {one[:16] for one in made[0]} & {one[:16] for one in made[1]}


@pytest.mark.parametrize("path", ["/v1/models/dia%62etes/sample", "/v1/models/%64iabetes/versions/%31/sample"])
def test_names_may_be_percent_encoded(server: Server, path: str) -> None:
    """A name is what it is decoded to."""
    assert server.client.post(path, json=SEEDED).content == server.client.post(SAMPLE, json=SEEDED).content


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/diabetes/versions/1%2F2/sample",
        "/v1/models/diabetes/sample/",
        "/v1/models//sample",
        "/v1/models/diabetes/versions//sample",
        "/V1/models/diabetes/sample",
        "/v1/models/diabetes/Sample",
        "/sample",
    ],
)
def test_what_only_looks_like_a_hot_path_is_404(server: Server, path: str) -> None:
    """A slash in a name, one too many, one too few: unknown, like any other path."""
    request = server.client.build_request("POST", "/", json=SEEDED)
    request.url = httpx.URL(f"{server.url}{path}")
    assert "/docs" in assert_problem(server.client.send(request), 404)["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize(
    "path",
    [
        *(f"{models}{version}/{verb}" for models, verb in HOT for version in ("", "/versions/1")),
        "/v2/repository/index",
        "/v2/repository/models/diabetes/load",
        "/v2/repository/models/diabetes/unload",
    ],
)
def test_hot_paths_take_only_post(server: Server, method: str, path: str) -> None:
    """Every other verb is 405, with POST in its Allow header; HEAD without a body."""
    answer = server.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.headers["x-request-id"]
    assert (answer.content == b"") is (method == "HEAD")


async def test_nobody_waits_behind_a_proxy_that_broke_down() -> None:
    """Where `receive` itself fails, as it does when Ray Serve has lost a proxy, that is a caller who is gone."""

    async def receive() -> Message:
        raise ConnectionResetError("the proxy died")

    assert exchange(receive).gone()
