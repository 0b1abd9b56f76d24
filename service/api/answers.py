"""What every answer has around its body, whichever codec wrote it: tag, caching, timings. Knows nothing of models."""

from __future__ import annotations

from collections.abc import AsyncIterator

from service.api.edge import Answer, Exchange, Headers
from service.batching import Timings
from service.caching.answers import Told
from service.telemetry.trail import clock

JSON = (b"content-type", b"application/json")
BYTES = (b"content-type", b"application/octet-stream")
# Of an answer whose JSON is followed by bytes.
TEXT_LENGTH = b"inference-header-content-length"
# What callers are told of how their answer came; where it was found is no business of theirs.
_OUTCOMES = {
    outcome: (b"penumbra-cache", said)
    for outcome, said in {"hit": b"hit", "shared": b"hit", "joined": b"joined", "miss": b"miss"}.items()
}
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


def as_told(told: Told, exchange: Exchange, tag: bytes | None) -> Answer:
    """An answer, wherever it came from; what was not computed took as long as the request has taken."""
    body, text = told.written
    exchange.timings, exchange.outcome = told.timings, told.outcome
    timings = told.timings or Timings(0.0, clock() - exchange.began)
    answer = answered([JSON] if text is None else [BYTES, (TEXT_LENGTH, b"%d" % text)], body, timings, tag)
    if told.outcome is not None:
        answer.headers.append(_OUTCOMES[told.outcome])
    return answer


def answered(media: Headers, body: bytes | AsyncIterator[bytes], timings: Timings, tag: bytes | None) -> Answer:
    """An answer; `media` says what its body is, no `tag` that it can't be asked for again."""
    queue, compute = timings.queue * 1e3, timings.compute * 1e3
    timing = b"queue;dur=%.3f, compute;dur=%.3f, total;dur=%.3f" % (queue, compute, queue + compute)
    caching = [(b"etag", tag), _PRIVATE] if tag else [_NO_STORE]
    return Answer(200, [*media, *caching, (b"server-timing", timing)], body)
