"""Connections as uvicorn keeps them, but for callers who are slow, or do not speak HTTP.

A request must have arrived within a time, headers and body each; of an answer, or of a stream, some bytes must arrive
within any such time, however few; headers and trailers are bounded, and so is the number of connections, but for those
that ask for health; one on which nothing more is asked is kept for long only while there is room; what can't be read as
HTTP is answered once, in the form of all problems, and the connection closed. One look a second at all connections does
what a timer for each request would do, for less. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
import secrets
import socket
import struct
import sys
import termios
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api import problems
from service.api.answers import SECURITY
from service.api.guard import HEALTH
from service.connections import Gentle, Room
from service.cycle import Cycle

LOOK_SECONDS = 1.0
# A connection on which nothing more is asked is closed after so long. Whoever closes it may lose a request that is on
# its way: so callers shall, whose pools give one up after 5 s (httpx) or 60 (nginx, balancers of clouds).
KEEP_SECONDS = 75
# Where others wait for its place: after so long.
CROWDED_SECONDS = 5.0
MOST_HEADERS = 100
# Of the request line and all headers; more than a chunk that is read at once, and no more is ever held.
MOST_HEADER_BYTES = 1 << 16
_CODING = b"transfer-encoding"
# Of a request line, what is looked at if it can't be read.
_LONGEST_LINE = 256
_TARGET = re.compile(rb"\S* (?:[a-z]+://[^/\s]*)?(/\S*)")
_NO_LINGERING = struct.pack("ii", 1, 0)

logger = logging.getLogger(__name__)


class _Refused(Exception):
    """Ends the parsing of a request; the parser reports it as an error of its own."""


class Protocol(HttpToolsProtocol):
    """One connection, of those for which there is room."""

    transport: Gentle  # type: ignore[assignment]

    def __init__(self, *arguments: Any, room: Room | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._room = room or Room()
        # Since when the caller owes us the rest of something: headers, or a body.
        self.owing: float | None = None
        # What it had yet to take when that last became another, and since when.
        self._left: tuple[int, int] | None = None
        self._stalled = 0.0
        self._idle_since = 0.0  # when the last answer was given
        # How much has come since a request last got on: what is neither body nor the end of something is held.
        self._in_headers, self._advanced, self._size = True, False, 0
        self._refusal: tuple[int, str] | None = None
        self._heard = b""  # as a request began
        self.url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(Gentle(transport, self.loop, self._in_the_midst))  # type: ignore[arg-type]
        self.owing = self.loop.time()
        self._room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._room.leave(self)

    def expel(self) -> None:
        """See connections.Guest."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.transport.lingering:
            self.transport.hear(data)
            return
        if self._refusal is not None:  # the connection is being closed
            return
        if self._in_headers:
            self._heard = data[:_LONGEST_LINE]
        self._advanced = False
        super().data_received(data)
        if not self._advanced and self._refusal is None:
            # Still headers, or trailers, or what may stand beside a chunk's size: the parser holds what has come of it.
            self._size += len(data)
            if self._size > MOST_HEADER_BYTES:
                self._refuse(431, "the headers are too large")
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """See httptools; the first byte of a request has come."""
        super().on_message_begin()
        self._in_headers, self._size = True, 1
        self.owing = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. What follows a body in chunks are no headers: they could say another thing than those did."""
        if not self._in_headers:
            return
        if len(name) == len(_CODING) and name.lower() == _CODING and value.strip().lower() != b"chunked":
            self._refuse(400, "the transfer coding must be chunked alone")
            raise _Refused
        super().on_header(name, value.rstrip(b" \t"))  # which is no part of it, though the parser hands it over
        if len(self.headers) > MOST_HEADERS:
            self._refuse(431, f"there are more than {MOST_HEADERS} headers")
            raise _Refused

    def on_headers_complete(self) -> None:
        """See httptools; as uvicorn's, but for what is refused, and for the cycle. There are no upgrades."""
        if self.transport.is_closing():  # what stood before was refused, and was told so
            raise _Refused
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MOST_HEADER_BYTES:
            self._refuse(431, "the headers are too large")
            raise _Refused
        if not self.url.startswith(b"/"):
            self._refuse(400, "the target of a request must be a path")
            raise _Refused
        parser, url = self.parser, httptools.parse_url(self.url)
        version = parser.get_http_version()
        if not version.startswith("1."):
            self._refuse(400, "this is not HTTP/1.1 as it should be")
            raise _Refused
        raw_path: bytes = url.path
        path = raw_path.decode("ascii")
        app = self.app
        if not self._room.holds(self) and path not in HEALTH:
            app = _turn_away
        if "%" in path:
            path = unquote(path)
        cycle = Cycle(
            self.scope,
            self.transport,  # type: ignore[arg-type]
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and parser.should_keep_alive(),
            self.on_response_complete,
        )
        asked: Scope = self.scope  # type: ignore[assignment]
        asked["method"], asked["http_version"] = parser.get_method().decode("ascii"), version
        asked["path"], asked["raw_path"], asked["query_string"] = path, raw_path, url.query or b""
        before, self.cycle = self.cycle, cycle
        self._in_headers, self._advanced, self._size = False, True, 0
        self.owing = self.loop.time()
        if before is None or before.response_complete:
            if app is not self.app or not self._turned_away(cycle):
                self._start_asgi_task(cycle, app)
        else:
            # One after the other: this caller does not wait for answers.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _turned_away(self, cycle: Cycle) -> bool:
        """Whether the application has refused a request by its headers. It then has its answer, and no task is made."""
        refusal = getattr(self.app, "refusal", None)
        if refusal is None or self.scope["method"] != "POST" or self.flow.write_paused:
            return False
        try:
            refused = refusal(self.scope)
        except Exception:  # noqa: BLE001 - a bug: the task meets it again, and tells of it
            return False
        return refused is not None and cycle.answer(*refused)

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._advanced, self._size = True, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._in_headers, self._advanced, self._size, self.owing = True, True, 0, None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """See HttpToolsProtocol: without a timer for the connection's end, as it is looked at anyway."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()

    def look(self, now: float, patience: float) -> None:
        """Closes the connection if its caller has owed us something, or taken nothing, for that many seconds.

        And if nothing has been asked on it for long, or not just now while there is no room for others.
        """
        if (left := self._untaken()) != self._left:
            self._left, self._stalled = left, now
        before = now - patience
        if left is not None and self._stalled < before:
            # Nor shall the system keep for it what it does not take.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
            self.transport.abort()
        elif self.transport.is_closing():
            return
        # While we do not read, it is not the caller who is slow.
        elif self.owing is not None and self.owing < before and not self.flow.read_paused:
            if not self.url and not self._size:
                self.transport.close()  # nothing was asked
                return
            self._refuse(408, "the request did not arrive in time")
            self.send_400_response("")
        elif (
            self.cycle is not None
            and self.cycle.response_complete
            and self.owing is None
            and self._idle_since < now - (CROWDED_SECONDS if self._room.full else KEEP_SECONDS)
        ):
            self.transport.close()

    def _untaken(self) -> tuple[int, int] | None:
        """Bytes that wait here, and that the system has and the caller's has not: of those it can hold megabytes."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            return None
        unheard = bytearray(4)
        with suppress(OSError):  # not every system says so
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, unheard)
        return waiting, int.from_bytes(unheard, sys.byteorder)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words say nothing
        """See HttpToolsProtocol: the connection ends, with an answer where none has begun."""
        self.owing = None
        if self.transport.is_closing():
            return
        status, detail = self._refusal or (400, "this is not HTTP/1.1 as it should be")
        self._refusal = status, detail
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            # What came before was read as a whole, and gets its answer; this gets none.
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if not self.pipeline and (self._in_headers or not cycle.response_started):
            answer = problems.unreadable(status, detail, secrets.token_hex(16).encode(), self._asked_path())
            head = [STATUS_LINE[status]]
            headers = [*self.server_state.default_headers, *answer.headers, *SECURITY]
            head += [b"%b: %b\r\n" % header for header in headers]
            self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(answer.body), answer.body]))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        self._refusal = status, detail

    def _asked_path(self) -> str:
        """The path of what can't be read, as far as it can be told: it says which protocol's errors are understood."""
        target = _TARGET.match(b"? " + self.url if self.url else self._heard)
        return target[1].decode("ascii", "replace") if target else ""

    def _in_the_midst(self) -> bool:
        """Whether something is still being sent, as far as we know."""
        return self._refusal is not None or not self._in_headers


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an ASGI application
    """There is no room for this connection; what was asked is not read."""
    status, headers, body = problems.turned_away(secrets.token_hex(16).encode(), scope["path"])
    headers += [(b"content-length", b"%d" % len(body)), *SECURITY]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def look_after(connections: Iterable[Any], patience: float) -> None:
    """Looks at all connections; one that can't be looked at is closed, and the others are looked after."""
    now = asyncio.get_running_loop().time()
    for connection in list(connections):
        if isinstance(connection, Protocol):
            try:
                connection.look(now, patience)
            except Exception:
                logger.exception("a connection could not be looked after, and is closed")
                connection.transport.abort()
