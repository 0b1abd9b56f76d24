"""One request as ASGI hands it over, and its answer: headers, body, deadline, tags.

Knows nothing of models, and nothing of the framework that serves all but the hot routes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from anyio import to_thread
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.access.callers import Caller
from service.api import strict_json
from service.api.compression import inflated
from service.cycle import cycle_of
from service.errors import BodyTooLarge, MalformedRequest, UnsupportedMedia
from service.telemetry.trail import Trail, clock

Decoded = TypeVar("Decoded")
Headers = list[tuple[bytes, bytes]]

# Bodies up to this size are decoded where they arrive: two milliseconds for one full of digits, else far less.
INLINE_BYTES = 1 << 16
# A larger body is not read where its request would come to nothing. To read a smaller one takes no longer than to
# refuse it, and what it asks for may be there already.
UNHEARD_BYTES = 1 << 12
# What clients call a body of JSON and bytes: nothing at all, bytes, or, as curl does unless it is told, a form.
_BYTES = (b"", b"application/octet-stream", b"application/x-www-form-urlencoded")
_JSON = re.compile(rb"application/(?:[a-z0-9!#$&^_.+-]+\+)?json")
_DEADLINE = re.compile(rb"[0-9]{1,8}")
_LONGEST_DEADLINE_MS = 24 * 3600 * 1000


class Answer(NamedTuple):
    """What goes back, but for its length and the request's id; a body of unknown length comes chunk by chunk."""

    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""


class Exchange(Trail):
    """One request, read as far as its handler asks; `parameters` are its path's, `state` is the application's.

    `sees` says of which models its caller may ask, `may_look_at` of which it may be told.

    Handlers leave on it what telemetry wants to know: `model`, `asked` and `timings`.
    """

    def __init__(self, scope: Scope, receive: Receive, route: str = "") -> None:
        self.parameters: dict[str, str] = scope["path_params"]
        caller: Caller = scope["state"]["caller"]
        self.sees, self.may_look_at = caller.sees, caller.may_look_at
        Trail.__init__(self, scope["state"]["request_id"], "POST", route, self.parameters.get("name", ""), caller.name)
        self._receive, self._cycle = receive, cycle_of(receive)
        self._sent: list[tuple[bytes, bytes]] = scope["headers"]
        # Of two that are equal the first counts.
        self._headers: dict[bytes, bytes] = dict(reversed(self._sent))
        self.state: Any = scope["app"].state

    async def read(self, max_bytes: int, decode: Callable[[dict[str, Any]], Decoded]) -> Decoded:
        """The body, a JSON object, decoded; a large one on another thread.

        Raises UnsupportedMedia, BodyTooLarge (before more than `max_bytes` are held), Unavailable (before anything
        large is read that would come to nothing), MalformedRequest, or what `decode` raises.
        """
        if not _is_json(self._headers.get(b"content-type", b"")):
            raise UnsupportedMedia("the body must be JSON: send Content-Type: application/json")
        if self._encoding() != b"identity":
            raise UnsupportedMedia("the body must not be compressed: send no Content-Encoding")
        body = await self._body(max_bytes)
        if len(body) <= INLINE_BYTES:
            decoded = _decode(body, decode)
        else:
            decoded = await to_thread.run_sync(_decode, body, decode)
        self._note_decoded()
        return decoded

    async def read_bytes(
        self, max_bytes: int, decode: Callable[[bytes], Decoded], *, inline: int = INLINE_BYTES
    ) -> Decoded:
        """The body as bytes, inflated where it is compressed, decoded; beyond `inline` bytes on another thread.

        Raises what `read` raises; `max_bytes` bound it inflated, too.
        """
        media = self._headers.get(b"content-type", b"")
        if not (_is_json(media) or _media_type(media) in _BYTES):
            raise UnsupportedMedia("the body must be JSON or bytes: application/json or application/octet-stream")
        encoding = self._encoding()
        body = await self._body(max_bytes)
        if encoding != b"identity":
            decoded = await to_thread.run_sync(lambda: decode(inflated(body, encoding, max_bytes)))
        else:
            decoded = decode(body) if len(body) <= inline else await to_thread.run_sync(decode, body)
        self._note_decoded()
        return decoded

    def header(self, name: bytes) -> bytes | None:
        """A header's value; the name in lower case."""
        return self._headers.get(name)

    def patience(self, default_ms: float) -> float:
        """Seconds that the caller will wait in the queue: what is left of X-Deadline-Ms, or the default.

        Below 0 where the deadline has passed while the request came. Raises MalformedRequest.
        """
        sent = self._headers.get(b"x-deadline-ms")
        if sent is None:
            return default_ms / 1000.0
        if not _DEADLINE.fullmatch(sent) or not 1 <= int(sent) <= _LONGEST_DEADLINE_MS:
            raise MalformedRequest(f"X-Deadline-Ms must be a whole number from 1 to {_LONGEST_DEADLINE_MS}")
        return int(sent) / 1000.0 - (clock() - self.began)

    def already_has(self, tag: bytes) -> bool:
        """Whether If-None-Match, a list that may be spread over several headers, names this tag."""
        if b"if-none-match" not in self._headers:
            return False
        lists = (value for name, value in self._sent if name == b"if-none-match")
        return any(one.strip().removeprefix(b"W/") == tag for listed in lists for one in listed.split(b","))

    def gone(self) -> bool:
        """Whether the caller has hung up. Good for nothing before the body was read, and never waits.

        Where nothing but `receive` can tell, it is stepped by hand: with no body left, what it has to say at once can
        only be a disconnect, and a caller who is still there makes it wait, which it is then let off.
        """
        if self._cycle is not None:
            return self._cycle.disconnected
        waiting = self._receive().__await__()
        try:
            next(waiting)
        except StopIteration as said:
            return bool(said.value["type"] == "http.disconnect")
        except Exception:  # noqa: BLE001 - who is beyond a proxy that broke down is not heard of any more
            return True
        waiting.close()
        return False

    def _note_decoded(self) -> None:
        if self.span is not None:
            self.decoded = clock()

    def _encoding(self) -> bytes:
        return self._headers.get(b"content-encoding", b"identity").lower()

    async def _body(self, max_bytes: int) -> bytes:
        length = _length(self._headers)
        if length > max_bytes:
            raise BodyTooLarge(f"the body has more than {max_bytes} bytes")
        looked = length > UNHEARD_BYTES  # at the door
        body = None if self._cycle is None else self._cycle.take()
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            if body is None:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk, more = message.get("body", b""), message.get("more_body", False)
            else:
                chunk, more = body, False
            chunks.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                raise BodyTooLarge(f"the body has more than {max_bytes} bytes")
            if size > UNHEARD_BYTES and not looked:
                looked = True
                self._foresee()
        return b"".join(chunks)

    def _foresee(self) -> None:
        """Raises Unavailable where no large request makes sense now, unless the caller may have the answer already."""
        if b"if-none-match" not in self._headers:
            self.state.inference.foresee(self.caller)


def is_large(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body is announced that is not to be read where its request would come to nothing."""
    return _length(headers) > UNHEARD_BYTES


def _length(headers: Mapping[bytes, bytes]) -> int:
    declared = headers.get(b"content-length", b"")
    return int(declared[:20]) if declared.isdigit() else 0


def _is_json(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    return _JSON.fullmatch(_media_type(content_type)) is not None


def _media_type(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()


def _decode(body: bytes, decode: Callable[[dict[str, Any]], Decoded]) -> Decoded:
    return decode(strict_json.parse_object(body))
