"""The HTTP floor: the least that uvicorn can do for a request. It parses the JSON and answers a fixed text.

    uvicorn benchmarks.http.bare:app        POST /<length of the answer>

An ASGI callable with no framework around it; the JSON parser is orjson, as in the service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import orjson

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers POST /<n> with n bytes; GET with none."""
    if scope["type"] != "http":
        return
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if body:
        orjson.loads(body)
    start, answer = _answer(scope["path"])
    await send(start)
    await send(answer)


@cache
def _answer(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    length = int(path[1:] or 0)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    return (
        {"type": "http.response.start", "status": 200, "headers": headers},
        {"type": "http.response.body", "body": b"0" * length},
    )
