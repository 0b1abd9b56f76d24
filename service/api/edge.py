"""What happens to every request before and after its handler: request ids, bodies, deadlines, tags.

Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import to_thread
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import strict_json
from service.errors import BodyTooLarge, MalformedRequest, UnsupportedMedia

Decoded = TypeVar("Decoded")

# Bodies up to this size are decoded where they arrive: well under a millisecond.
_INLINE_BYTES = 1 << 15
_SANE_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_LONGEST_DEADLINE_MS = 24 * 3600 * 1000


class RequestId:
    """Gives each request an id, the caller's if it is sane, and returns it as X-Request-ID."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        request_id = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("X-Request-ID", request_id)
            await send(message)

        await self._app(scope, receive, send_with_id)


async def read_json(request: Request, max_bytes: int, decode: Callable[[dict[str, Any]], Decoded]) -> Decoded:
    """The request's body, a JSON object, decoded; a large one on another thread.

    Raises UnsupportedMedia, BodyTooLarge (before more than `max_bytes` are held), MalformedRequest, or what `decode`
    raises.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMedia("the body must be JSON: send Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("the body must not be compressed: send no Content-Encoding")
    body = await _read_body(request, max_bytes)
    if len(body) <= _INLINE_BYTES:
        return _decode(body, decode)
    return await to_thread.run_sync(_decode, body, decode)


def _decode(body: bytes, decode: Callable[[dict[str, Any]], Decoded]) -> Decoded:
    value = strict_json.parse(body)
    if not isinstance(value, dict):
        raise MalformedRequest("the body must be a JSON object")
    return decode(value)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise BodyTooLarge(f"the body has more than {max_bytes} bytes")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge(f"the body has more than {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def patience(request: Request, default_ms: int) -> float:
    """Seconds that the caller will wait in the queue: X-Deadline-Ms, at most a day, or the default."""
    sent = request.headers.get("x-deadline-ms")
    if sent is None:
        return default_ms / 1000.0
    if not re.fullmatch(r"[0-9]{1,8}", sent) or not 1 <= int(sent) <= _LONGEST_DEADLINE_MS:
        raise MalformedRequest(f"X-Deadline-Ms must be a whole number from 1 to {_LONGEST_DEADLINE_MS}")
    return int(sent) / 1000.0


def entity_tag(*parts: bytes) -> str:
    """A strong tag: a hash of all that a body depends on."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return f'"{digest.hexdigest()}"'


def already_has(request: Request, tag: str) -> bool:
    """Whether If-None-Match names this tag."""
    sent = request.headers.get("if-none-match", "")
    return any(candidate.strip().removeprefix("W/") == tag for candidate in sent.split(","))
