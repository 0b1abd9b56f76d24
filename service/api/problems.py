"""The one table from errors to HTTP, and the form they take: application/problem+json (RFC 9457).

Under /v2 they take the Open Inference Protocol's form instead, which knows no 422. A problem never quotes the request,
carries at most ten complaints and stays under 4 KB.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from models.features import InvalidRows
from service import errors
from service.access.callers import ANYONE
from service.api.edge import Headers

MEDIA_TYPE = b"application/problem+json"
_CLOSE = (b"connection", b"close")
_CHALLENGE = (b"www-authenticate", b'Bearer realm="penumbra"')
_LONGEST_TEXT, _LONGEST_DETAIL = 250, 2000
_MOST_NAMES = 25  # of 64 letters at most, and a comma
_LARGEST_BODY = 4000
_TITLES = {status.value: status.phrase for status in HTTPStatus}
_PROTOCOL = re.compile(r"/v2(/|$)")

# Most specific first: the first class that fits decides.
TABLE: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.MalformedRequest, 400, "malformed-request"),
    (ClientDisconnect, 400, "client-disconnected"),  # while the body was read
    (errors.CallerGone, 400, "client-disconnected"),  # later
    (errors.InvalidRequest, 422, "invalid-request"),
    (InvalidRows, 422, "invalid-request"),
    (errors.BodyTooLarge, 413, "body-too-large"),
    (errors.UnsupportedMedia, 415, "unsupported-media"),
    (errors.Unauthenticated, 401, "unauthenticated"),
    (errors.Forbidden, 403, "forbidden"),
    (errors.UnknownModel, 404, "unknown-model"),
    (errors.UnknownJob, 404, "unknown-job"),
    (errors.NotApplicable, 409, "not-applicable"),
    (errors.RateExceeded, 429, "rate-exceeded"),
    (errors.ShareExceeded, 429, "share-exceeded"),
    (errors.QueueFull, 503, "queue-full"),
    (errors.MemoryShort, 503, "memory-short"),
    (errors.ShuttingDown, 503, "shutting-down"),
    (errors.ModelNotReady, 503, "model-not-ready"),
    (errors.Unavailable, 503, "unavailable"),
    (errors.DeadlineExceeded, 504, "deadline-exceeded"),
)


KNOWN = tuple(kind for kind, _, _ in TABLE)


class Problem(NamedTuple):
    """What goes back, as in `edge.Answer`; its body is there at once."""

    status: int
    headers: Headers
    body: bytes


def install(app: FastAPI) -> None:
    """Makes every error of this app answer with a problem."""
    for kind in KNOWN:
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)


def of(
    error: Exception, request_id: bytes, path: str, may_look_at: Callable[[str], bool] = ANYONE.may_look_at
) -> Problem:
    """The problem that a known error is, in the form of the path's protocol; the caller may be told of such models."""
    status, kind = _entry(type(error))  # type: ignore[arg-type]  # mypy asks errors for the hash, not their type
    headers = []
    if isinstance(error, errors.Unavailable):
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if status == 401:
        headers.append(_CHALLENGE)
    if status in (400, 401, 413):
        # What is left of the body won't be read: the connection can't be used again.
        headers.append(_CLOSE)
    complaints = error.complaints if isinstance(error, (errors.InvalidRequest, InvalidRows)) else ()
    detail = f"{complaints[0][0]}: {complaints[0][1]}" if complaints else str(error)
    if isinstance(error, errors.UnknownModel):
        detail += _listed([name for name in error.names if may_look_at(error.model or name)])
    return _problem(path, request_id, status, detail, headers, kind, complaints)


def _listed(names: list[str]) -> str:
    """The first of what there is, and how many more."""
    if not names:
        return ""
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"; there are: {', '.join(names[:_MOST_NAMES])}{more}"


@cache
def _entry(kind: type[Exception]) -> tuple[int, str]:
    return next((status, name) for known, status, name in TABLE if issubclass(kind, known))


def of_bug(request_id: bytes, path: str) -> Problem:
    """The problem that any other error is, likewise."""
    detail = f"an internal error; please report it with the request id {request_id.decode()}"
    # The server drops the connection after a bug: said, so that no other request is sent on it.
    return _problem(path, request_id, 500, detail, [_CLOSE], "bug")


def unreadable(status: int, detail: str, request_id: bytes, path: str) -> Problem:
    """The problem of bytes that are no request; the connection is closed after it."""
    answer = _problem(path, request_id, status, detail, [_CLOSE], "malformed-request" if status == 400 else "")
    answer.headers.append((b"x-request-id", request_id))
    return answer


def turned_away(request_id: bytes, path: str) -> Problem:
    """The problem of a connection too many; it is closed after it."""
    answer = of(errors.Unavailable("as many connections as may are open already"), request_id, path)
    answer.headers.extend((_CLOSE, (b"x-request-id", request_id)))
    return answer


def _problem(
    path: str,
    request_id: bytes,
    status: int,
    detail: str,
    headers: Headers,
    kind: str = "",
    complaints: tuple[tuple[str, str], ...] = (),
) -> Problem:
    if _PROTOCOL.match(path):
        said = "; ".join(f"{_short(field)}: {_short(message)}" for field, message in complaints) or _short(
            detail, _LONGEST_DETAIL
        )
        return Problem(
            400 if status == 422 else status, [(b"content-type", b"application/json"), *headers], _error(said)
        )
    content: dict[str, Any] = {
        "type": f"urn:penumbra:problem:{kind}" if kind else "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": _short(detail, _LONGEST_DETAIL),
        "errors": [{"field": _short(field), "message": _short(message)} for field, message in complaints],
        "request_id": request_id.decode(),
    }
    while len(body := orjson.dumps(content)) > _LARGEST_BODY:
        content["errors"].pop()
    return Problem(status, [(b"content-type", MEDIA_TYPE), *headers], body)


def _error(said: str) -> bytes:
    while len(body := orjson.dumps({"error": said})) > _LARGEST_BODY:
        said = said[: len(said) * 3 // 4] + "…"
    return body


async def _answer(request: Request, error: Exception) -> Response:
    may_look_at = request.scope["state"]["caller"].may_look_at
    return _response(of(error, _id(request), request.scope["path"], may_look_at))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Unknown paths and wrong verbs, as the router reports them."""
    assert isinstance(error, HTTPException)
    details = {
        404: "there is nothing at this path; /docs lists what there is",
        405: "this path does not take this method; see the Allow header",
    }
    detail = details.get(error.status_code, HTTPStatus(error.status_code).description)
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    return _response(_problem(request.scope["path"], _id(request), error.status_code, detail, headers))


async def _answer_bug(request: Request, _: Exception) -> Response:
    return _response(of_bug(_id(request), request.scope["path"]))


def _id(request: Request) -> bytes:
    found: bytes = request.scope.get("state", {}).get("request_id", b"")
    return found


def _response(problem: Problem) -> Response:
    response = Response(problem.body, problem.status)
    response.raw_headers += problem.headers
    return response


def _short(text: str, longest: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
