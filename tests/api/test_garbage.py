"""What a request took is free when it has been answered: nothing of it waits for the garbage collector.

That looks seldom, since few objects are made here that it counts, however many megabytes hang on each.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.api.inside import running
from tests.api.wire import ROW
from tests.garbage import left_behind

ROWS = [ROW] * 2000
FAR = [1e38] * len(ROW)
DIGIT = [0.0] * 64
TENSOR = {"name": "inputs", "shape": [2000, 10], "datatype": "FP64", "data": [0.0] * 20_000}

ASKED: dict[str, tuple[int, str, Any]] = {
    "a prediction": (200, "v1/models/diabetes/predict", {"inputs": ROWS}),
    "a small sampling": (200, "v1/models/diabetes/sample", {"inputs": [ROW], "samples": 20, "seed": 1}),
    "a large sampling": (200, "v1/models/diabetes/sample", {"inputs": ROWS, "samples": 50, "seed": 1}),
    "draws": (200, "v1/models/diabetes/sample", {"inputs": ROWS, "samples": 9, "seed": 1, "return_draws": True}),
    "a target": (
        200,
        "v1/models/diabetes/sample",
        {"inputs": ROWS[:50], "samples": {"target_stderr": 0.5, "min": 32, "max": 200}, "seed": 1},
    ),
    "moments": (200, "v1/models/diabetes/sample", {"inputs": ROWS[:50], "method": "moments"}),
    "an ensemble": (
        200,
        "v1/models/digits-ensemble/sample",
        {"inputs": [DIGIT] * 100, "samples": 50, "seed": 1, "method": "ensemble"},
    ),
    "a stream": (200, "v1/models/diabetes/sample/stream", {"inputs": ROWS, "samples": 100, "seed": 1}),
    "a tensor": (200, "v2/models/diabetes/infer", {"inputs": [TENSOR]}),
    "no JSON": (400, "v1/models/diabetes/sample", b"{" * 100_000),
    "no model": (404, "v1/models/none/sample", {"inputs": ROWS}),
    "a conflict": (409, "v1/models/diabetes/sample", {"inputs": ROWS, "samples": 2, "method": "ensemble"}),
    "too large a body": (413, "v1/models/diabetes/sample", b" " * 5_000_000),
    "a row that is none": (422, "v1/models/diabetes/predict", {"inputs": [*ROWS, ["x"] * 10]}),
    "a large one that overflows": (
        422,
        "v1/models/diabetes/sample",
        {"inputs": [*ROWS, FAR], "samples": 50, "seed": 1},
    ),
    "a small one that overflows": (422, "v1/models/diabetes/sample", {"inputs": [FAR], "samples": 2, "seed": 1}),
    "a tensor that is none": (400, "v2/models/diabetes/infer", {"inputs": [{**TENSOR, "shape": [7]}]}),
    "a caller who has gone": (400, "v1/models/diabetes/sample", {"inputs": ROWS, "samples": 900, "seed": 1}),
}


@pytest.mark.parametrize("kind", ASKED)
async def test_nothing_waits_for_the_garbage_collector(kind: str) -> None:
    """After two others like it the collector finds nothing that a request has left."""
    status, path, body = ASKED[kind]
    async with running(answer_cache_bytes=0, access_log=False) as (app, _):
        for _ in range(2):
            assert await asked(app, path, body, hangs_up=kind == "a caller who has gone") == status
        with left_behind() as left:
            assert await asked(app, path, body, hangs_up=kind == "a caller who has gone") == status
    assert left == []


async def asked(app: Any, path: str, body: Any, *, hangs_up: bool) -> int:
    """The status of the answer."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    messages, statuses = [{"type": "http.request", "body": sent, "more_body": False}], list[int]()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        if hangs_up:
            return {"type": "http.disconnect"}
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": f"/{path}", "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    return statuses[0]
