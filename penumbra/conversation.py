"""One request until it is answered: deadlines, retries, backoff. Does nothing itself, and knows no models.

A conversation is a generator: it yields what is to be done, an effect, and is sent what came of it. `drivers` has one
that holds it with threads, and one for asyncio; both faces of the client share everything that is decided here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import httpx

from penumbra import errors

_LONGEST_DEADLINE_MS = 24 * 3600 * 1000
_WORTH_RETRYING = (429, 502, 503)
# Without a word from the service about it, these are a gateway's: the service never took it up, or its answer was lost.
_OF_GATEWAYS = (500, 504)


class Request(NamedTuple):
    """What is sent; as its body a file may stand for what is in it.

    All requests of this client may be repeated: they are pure functions of what they say, or carry a key by which the
    service knows that it has done this before.
    """

    method: str
    path: str
    body: bytes | Path | None = None
    headers: Mapping[str, str] = {}


class Reply(NamedTuple):
    """What came back; of what was opened line by line, the body is here only where it is no stream of events."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Send(NamedTuple):
    """Effect: send, and read the whole answer within so many seconds → Reply.

    Raises httpx.RequestError or TimeoutError, as `Open`, `Line` and `Save` do.
    """

    request: Request
    seconds: float | None


class Open(NamedTuple):
    """Effect: send, and leave what comes open to be read line by line, where it is a stream of events → Reply."""

    request: Request
    seconds: float | None


class Line(NamedTuple):
    """Effect: the next line of what was opened last, within so many seconds → str, or None at its end."""

    seconds: float | None


class Save(NamedTuple):
    """Effect: send, and write what comes to a file, which appears whole or not at all → Reply, its body left out.

    `place` says which file, by the answer's headers, or raises. Each part of it may take so many seconds. What is no
    2xx goes to no file, and has its body.
    """

    request: Request
    seconds: float | None
    place: Callable[[Mapping[str, str]], Path]


class Pause(NamedTuple):
    """Effect: wait → None."""

    seconds: float


class Emit(NamedTuple):
    """Effect: hand a value to the caller → None."""

    value: Any


class Each(NamedTuple):
    """Effect: hold these conversations, so many at a time → their results in order."""

    conversations: Iterator[Conversation[Any]]
    at_once: int
    done: Callable[[int], None]  # is told the number of each one that has ended


Effect = Send | Open | Line | Save | Pause | Emit | Each
T = TypeVar("T")
Conversation = Generator[Effect, Any, T]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try: `timeout` seconds for each request in all (None: without end), and so many retries.

    Pauses grow from `first_pause` to `longest_pause` seconds, each drawn between none of it and all of it, so that
    callers who were refused together don't come back together. The clock can be another's.
    """

    timeout: float | None = 60.0
    retries: int = 5
    first_pause: float = 0.1
    longest_pause: float = 10.0
    clock: Callable[[], float] = field(default=monotonic, repr=False)
    draw: Callable[[float, float], float] = field(default=random.SystemRandom().uniform, repr=False)

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Seconds before the next attempt; never less than the service asks for."""
        jitter = self.draw(0.0, min(self.longest_pause, self.first_pause * 2**attempt))
        return (retry_after or 0.0) + jitter


class Deadline:
    """When the caller's patience is over."""

    def __init__(self, patience: Patience) -> None:
        self._clock = patience.clock
        self.timeout = patience.timeout
        self.renew()

    def renew(self) -> None:
        """Begins anew: something has come."""
        self._end = None if self.timeout is None else self._clock() + self.timeout

    def left(self) -> float | None:
        """Seconds that are left, None being without end. Raises DeadlineExceeded where none are."""
        if self._end is None:
            return None
        left = self._end - self._clock()
        if left <= 0:
            raise self.exceeded()
        return left

    def allows(self, seconds: float) -> bool:
        """Whether there is time for more than a pause."""
        return self._end is None or self._clock() + seconds < self._end

    def exceeded(self) -> errors.DeadlineExceeded:
        """The error of being too late."""
        return errors.DeadlineExceeded(f"no answer within {self.timeout:g} s")


def call(request: Request, patience: Patience) -> Conversation[Reply]:
    """Sends a request until it is answered with a 2xx. Raises PenumbraError."""
    return (yield from attempts(patience, lambda deadline: _once(request, deadline)))


def attempts(patience: Patience, attempt: Callable[[Deadline], Conversation[T]]) -> Conversation[T]:
    """Does something again for as long as there is hope and time: what it raises decides. Raises PenumbraError."""
    deadline = Deadline(patience)
    for number in range(patience.retries + 1):
        try:
            return (yield from attempt(deadline))
        except Again as again:
            pause = patience.pause(number, again.retry_after)
            if number == patience.retries or not deadline.allows(pause):
                raise again.error from again.__cause__
        yield Pause(pause)
    raise AssertionError("the last attempt returns or raises")


class Again(Exception):
    """An attempt that failed for a reason that may pass; `error` is what to raise if it doesn't."""

    def __init__(self, error: errors.PenumbraError, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.retry_after = error, retry_after


def _once(request: Request, deadline: Deadline) -> Conversation[Reply]:
    left = deadline.left()
    try:
        reply: Reply = yield Send(timed(request, left), left)
    except (httpx.RequestError, TimeoutError) as error:
        raise broken(error, deadline) from error
    return accepted(reply)


def timed(request: Request, left: float | None) -> Request:
    """The request with the deadline sent along: the service drops what nobody waits for any more."""
    if left is None:
        return request
    milliseconds = max(1, min(_LONGEST_DEADLINE_MS, int(left * 1000)))
    return request._replace(headers={**request.headers, "X-Deadline-Ms": str(milliseconds)})


def accepted(reply: Reply) -> Reply:
    """The reply, if it is a 2xx. Raises Again or PenumbraError."""
    if reply.status // 100 == 2:
        return reply
    retry_after = _seconds(reply.headers.get("retry-after"))
    request_id = reply.headers.get("x-request-id", "")
    error = errors.of_answer(reply.status, reply.body, request_id, retry_after)
    if reply.status in _WORTH_RETRYING or (reply.status in _OF_GATEWAYS and error.problem is None):
        raise Again(error, retry_after)
    raise error


def broken(error: Exception, deadline: Deadline) -> Exception:
    """What to raise for a connection that failed or a wait that ended."""
    deadline.left()
    if isinstance(error, (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout)):
        return deadline.exceeded()
    if isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
        return errors.ConnectionFailed(f"this is not the address of a service: {error}")
    if isinstance(error, httpx.ConnectError):
        return Again(errors.ConnectionFailed(_unreachable(error)))
    return Again(errors.ConnectionFailed(f"the connection broke before the answer had arrived: {error!r}"))


def _unreachable(error: httpx.ConnectError) -> str:
    url = error.request.url
    why = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or "no connection"
    secure = url.scheme == "https" and "SSL" in why
    told = f"no service at {url.copy_with(raw_path=b'')}: {why if secure else why[0].lower() + why[1:]}"
    return told if secure else f"{told}. Is it running?"


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After header asks for: seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date either, or one without a zone
        return None
