"""One request as ASGI hands it over, and its answer: headers, body, deadline, tags.

Knows nothing of models, and nothing of the framework that serves all but the hot routes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from anyio import to_thread
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.api import strict_json
from service.errors import BodyTooLarge, MalformedRequest, UnsupportedMedia
from service.telemetry.trail import Trail, clock

Decoded = TypeVar("Decoded")
Headers = list[tuple[bytes, bytes]]

# Bodies up to this size are decoded where they arrive: two milliseconds for one full of digits, else far less.
_INLINE_BYTES = 1 << 16
_DEADLINE = re.compile(rb"[0-9]{1,8}")
_LONGEST_DEADLINE_MS = 24 * 3600 * 1000


class Answer(NamedTuple):
    """What goes back, but for its length and the request's id."""

    status: int
    headers: Headers
    body: bytes = b""


class Exchange(Trail):
    """One request, read as far as its handler asks; `parameters` are its path's, `state` is the application's.

    Handlers leave on it what telemetry wants to know: `model`, `asked` and `timings`.
    """

    def __init__(self, scope: Scope, receive: Receive, route: str = "") -> None:
        self.parameters: dict[str, str] = scope["path_params"]
        Trail.__init__(self, scope["state"]["request_id"], "POST", route, self.parameters.get("name", ""))
        self._receive = receive
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # of two that are equal the first counts
        self.state: Any = scope["app"].state

    async def read(self, max_bytes: int, decode: Callable[[dict[str, Any]], Decoded]) -> Decoded:
        """The body, a JSON object, decoded; a large one on another thread.

        Raises UnsupportedMedia, BodyTooLarge (before more than `max_bytes` are held), MalformedRequest, or what
        `decode` raises.
        """
        self._check_media()
        body = await self._body(max_bytes)
        if len(body) <= _INLINE_BYTES:
            decoded = _decode(body, decode)
        else:
            decoded = await to_thread.run_sync(_decode, body, decode)
        if self.span is not None:
            self.decoded = clock()
        return decoded

    def patience(self, default_ms: int) -> float:
        """Seconds that the caller will wait in the queue: X-Deadline-Ms, at most a day, or the default."""
        sent = self._headers.get(b"x-deadline-ms")
        if sent is None:
            return default_ms / 1000.0
        if not _DEADLINE.fullmatch(sent) or not 1 <= int(sent) <= _LONGEST_DEADLINE_MS:
            raise MalformedRequest(f"X-Deadline-Ms must be a whole number from 1 to {_LONGEST_DEADLINE_MS}")
        return int(sent) / 1000.0

    def already_has(self, tag: bytes) -> bool:
        """Whether If-None-Match names this tag."""
        sent = self._headers.get(b"if-none-match")
        return sent is not None and any(one.strip().removeprefix(b"W/") == tag for one in sent.split(b","))

    def gone(self) -> bool:
        """Whether the caller has hung up. Good for nothing before the body was read, and never waits.

        `receive` is stepped by hand: with no body left, what it has to say at once can only be a disconnect, and a
        caller who is still there makes it wait, which it is then let off.
        """
        waiting = self._receive().__await__()
        try:
            next(waiting)
        except StopIteration as said:
            return bool(said.value["type"] == "http.disconnect")
        waiting.close()
        return False

    def _check_media(self) -> None:
        sent = self._headers.get(b"content-type", b"")
        if sent != b"application/json":
            media_type = sent.decode("latin-1").partition(";")[0].strip().lower()
            if media_type != "application/json" and not media_type.endswith("+json"):
                raise UnsupportedMedia("the body must be JSON: send Content-Type: application/json")
        encoding = self._headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise UnsupportedMedia("the body must not be compressed: send no Content-Encoding")

    async def _body(self, max_bytes: int) -> bytes:
        declared = self._headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > max_bytes:
            raise BodyTooLarge(f"the body has more than {max_bytes} bytes")
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
            size += len(chunks[-1])
            if size > max_bytes:
                raise BodyTooLarge(f"the body has more than {max_bytes} bytes")
        return b"".join(chunks)


def _decode(body: bytes, decode: Callable[[dict[str, Any]], Decoded]) -> Decoded:
    value = strict_json.parse(body)
    if not isinstance(value, dict):
        raise MalformedRequest("the body must be a JSON object")
    return decode(value)
