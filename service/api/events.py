"""Answers that grow, as server-sent events.

    event: running   after each block of samples: how far it has come, and what the samples so far say
    event: answer    once, at the end: the very body that a request that waits for it gets
    event: problem   instead, where something went wrong after the first block: what an error's body would have said

Knows nothing of what is told.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from service.api import problems
from service.api.edge import Headers
from service.api.encoding import encode
from service.batching import Timings
from service.errors import CallerGone
from service.jobs import Sampled

# Proxies that would collect an answer before they pass it on are told not to.
MEDIA: Headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


async def stream_of(
    first: Sampled,
    later: AsyncGenerator[tuple[Sampled, Timings], None],
    tell: Callable[[Sampled], dict[str, Any]],
    most: int,
    request_id: bytes,
) -> AsyncIterator[bytes]:
    """The events of a sampling of at most so many samples: `tell` has the fields of an answer, whole or so far.

    A bug is told, and then raised for the server to log it and to drop the connection.
    """
    answer = first
    async with aclosing(later):
        try:
            yield await _running(tell, answer, most)
            async for answer, _ in later:
                yield await _running(tell, answer, most)
            yield _event(b"answer", await encode(tell(answer)))
        except CallerGone:
            return
        except problems.KNOWN as error:
            yield _event(b"problem", problems.of(error, request_id, "").body)
        except Exception:
            yield _event(b"problem", problems.of_bug(request_id, "").body)
            raise


async def _running(tell: Callable[[Sampled], dict[str, Any]], answer: Sampled, most: int) -> bytes:
    progress = {"progress": {"samples": answer.samples, "of": most}}
    return _event(b"running", await encode({**progress, **tell(answer._replace(draws=None))}))


def _event(name: bytes, data: bytes) -> bytes:
    """An event; JSON as it is written here has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (name, data)
