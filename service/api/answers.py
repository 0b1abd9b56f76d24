"""What every answer has around its body, whichever codec wrote it: tag, caching, timings. Knows nothing of models."""

from __future__ import annotations

from collections.abc import AsyncIterator

from service.api.edge import Answer, Headers
from service.batching import Timings

JSON = (b"content-type", b"application/json")
_NOT_FRAMED = b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# What browsers are told of every answer: it is what it says it is, and no page. Pages bring a policy of their own.
POLICY = b"content-security-policy"
SECURITY: Headers = [(b"x-content-type-options", b"nosniff"), (POLICY, b"default-src 'none'; " + _NOT_FRAMED)]
_OF_DOCS: Headers = [
    *SECURITY[:1],
    (POLICY, b"default-src 'self' 'unsafe-inline'; img-src 'self' data:; " + _NOT_FRAMED),
]
_PRIVATE = (b"cache-control", b"private")
_NO_STORE = (b"cache-control", b"no-store")


def security(path: str) -> Headers:
    """The same for an answer of the framework: Swagger's page has a script and styles in its midst."""
    return _OF_DOCS if path == "/docs" else SECURITY


def not_modified(tag: bytes) -> Answer:
    """The caller has this answer already."""
    return Answer(304, [(b"etag", tag), _PRIVATE])


def answered(media: Headers, body: bytes | AsyncIterator[bytes], timings: Timings, tag: bytes | None) -> Answer:
    """A computed answer; `media` says what its body is, no `tag` that it can't be asked for again."""
    queue, compute = timings.queue * 1e3, timings.compute * 1e3
    timing = b"queue;dur=%.3f, compute;dur=%.3f, total;dur=%.3f" % (queue, compute, queue + compute)
    caching = [(b"etag", tag), _PRIVATE] if tag else [_NO_STORE]
    return Answer(200, [*media, *caching, (b"server-timing", timing)], body)
