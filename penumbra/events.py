"""Server-sent events: a stream of them, event by event. Does nothing itself; knows nothing of what they tell."""

from __future__ import annotations

from typing import NamedTuple

import httpx

from penumbra import errors
from penumbra.conversation import Again, Conversation, Deadline, Line, Open, Reply, Request, accepted, broken, timed

MEDIA_TYPE = "text/event-stream"


class Event(NamedTuple):
    """An event's name and its data."""

    name: str
    data: str


def opened(request: Request, deadline: Deadline) -> Conversation[None]:
    """Asks for a stream. Raises Again or PenumbraError."""
    left = deadline.left()
    accept = request._replace(headers={**request.headers, "Accept": MEDIA_TYPE})
    try:
        reply: Reply = yield Open(timed(accept, left), left)
    except (httpx.RequestError, TimeoutError) as error:
        raise broken(error, deadline) from error
    accepted(reply)
    media = reply.headers.get("content-type", "no content type")
    if not media.startswith(MEDIA_TYPE):
        raise errors.UnexpectedAnswer(f"the answer is {media}, not a stream of events: is the address right?")


def next_event(deadline: Deadline) -> Conversation[Event]:
    """The next event. Raises Again where the stream ends without one: the last one is told by its name."""
    name, data = "message", list[str]()
    while True:
        try:
            line: str | None = yield Line(deadline.left())
        except (httpx.RequestError, TimeoutError) as error:
            raise broken(error, deadline) from error
        if line is None:
            raise Again(errors.ConnectionFailed("the stream ended before its answer"))
        if not line and data:
            return Event(name, "\n".join(data))
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)


def failed(data: str) -> None:
    """Raises what a problem says that was told by an event: Again, or PenumbraError."""
    body = data.encode()
    problem = errors.problem_of(body)
    accepted(Reply(problem.status if problem else 500, {}, body))
