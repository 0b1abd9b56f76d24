"""A request and its answer as uvicorn keeps them; what is there as a whole is taken, and given, as a whole.

An answer as ASGI's two messages would be two system calls, and wake its caller twice; and uvicorn looks at each header
with two regular expressions. Together that is a fifth of a small prediction. Knows nothing of what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from starlette.types import Receive, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

# A larger body is handed over in slices, at the pace of the connection, and lets others in between.
WHOLE_BYTES = 1 << 18

# Status, headers with the length of the body, and the body: whether they were taken.
Whole: TypeAlias = Callable[[int, Sequence[tuple[bytes, bytes]], bytes], bool]

_CLOSE = (b"connection", b"close")


class Cycle(RequestResponseCycle):
    """A request that can be answered as ASGI has it, or by `answer`."""

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Takes a whole answer to anything but HEAD; not one that has to wait for its caller to read.

        `connection: close` among the headers closes it. Raises RuntimeError where a header would end its line.
        """
        if self.flow.write_paused or len(body) > WHOLE_BYTES or self.response_started:
            return False
        if self.disconnected:
            return True
        said = (*self.default_headers, *headers)
        lines = [b"%b: %b\r\n" % header for header in said]
        if _CLOSE in said:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines):
            raise RuntimeError("a header has more than one line. This is a bug.")
        self.response_started = self.response_complete = True
        self.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n", body)))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True

    def take(self) -> bytes | None:
        """The body, if all of it has come; None: `receive` it."""
        if self.more_body or self.disconnected or self.response_complete:
            return None
        body, self.body = bytes(self.body), bytearray()
        self.message_event.clear()
        self.flow.resume_reading()
        return body


def cycle_of(receive: Receive) -> Cycle | None:
    """The request behind `receive`; None where that is another's."""
    cycle = getattr(receive, "__self__", None)
    return cycle if isinstance(cycle, Cycle) else None


def whole(send: Send) -> Whole | None:
    """What takes a whole answer; None where `send` is another's, who wants to see ASGI's messages."""
    cycle = getattr(send, "__self__", None)
    return cycle.answer if isinstance(cycle, Cycle) else None
