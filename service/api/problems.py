"""The one table from errors to HTTP, and the form they take: application/problem+json (RFC 9457).

A problem never quotes the request, carries at most ten complaints and stays under 4 KB.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from models.features import InvalidRows
from service import errors

MEDIA_TYPE = "application/problem+json"
_LONGEST_TEXT = 250
_LARGEST_BODY = 4000

# Most specific first: the first class that fits decides.
TABLE: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.MalformedRequest, 400, "malformed-request"),
    (ClientDisconnect, 400, "client-disconnected"),
    (errors.InvalidRequest, 422, "invalid-request"),
    (InvalidRows, 422, "invalid-request"),
    (errors.BodyTooLarge, 413, "body-too-large"),
    (errors.UnsupportedMedia, 415, "unsupported-media"),
    (errors.UnknownModel, 404, "unknown-model"),
    (errors.NotApplicable, 409, "not-applicable"),
    (errors.QueueFull, 503, "queue-full"),
    (errors.ShuttingDown, 503, "shutting-down"),
    (errors.ModelNotReady, 503, "model-not-ready"),
    (errors.DeadlineExceeded, 504, "deadline-exceeded"),
)


def install(app: FastAPI) -> None:
    """Makes every error of this app answer with a problem."""
    for kind in {kind for kind, _, _ in TABLE}:
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)


def problem(
    request: Request,
    status: int,
    detail: str,
    kind: str = "",
    complaints: tuple[tuple[str, str], ...] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem as a response."""
    request_id: str = request.scope.get("state", {}).get("request_id", "")
    content: dict[str, Any] = {
        "type": f"urn:penumbra:problem:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _short(detail),
        "errors": [{"field": _short(field), "message": _short(message)} for field, message in complaints],
        "request_id": request_id,
    }
    while len(body := orjson.dumps(content)) > _LARGEST_BODY:
        content["errors"].pop()
    return Response(body, status, {**(headers or {}), "X-Request-ID": request_id}, media_type=MEDIA_TYPE)


async def _answer(request: Request, error: Exception) -> Response:
    status, kind = next((status, name) for kind, status, name in TABLE if isinstance(error, kind))
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, errors.Unavailable) else None
    if status in (400, 413):
        # What is left of the body won't be read: the connection can't be used again.
        headers = {"Connection": "close"}
    complaints = error.complaints if isinstance(error, (errors.InvalidRequest, InvalidRows)) else ()
    detail = f"{complaints[0][0]}: {complaints[0][1]}" if complaints else str(error)
    return problem(request, status, detail, kind, complaints, headers)


async def _answer_http(request: Request, error: Exception) -> Response:
    """Unknown paths and wrong verbs, as the router reports them."""
    assert isinstance(error, HTTPException)
    details = {
        404: "there is nothing at this path; /docs lists what there is",
        405: "this path does not take this method; see the Allow header",
    }
    detail = details.get(error.status_code, HTTPStatus(error.status_code).description)
    return problem(request, error.status_code, detail, headers=dict(error.headers or {}))


async def _answer_bug(request: Request, _: Exception) -> Response:
    request_id = request.scope.get("state", {}).get("request_id", "")
    detail = f"an internal error; please report it with the request id {request_id}"
    # The server drops the connection after a bug: said, so that no other request is sent on it.
    return problem(request, 500, detail, "bug", headers={"Connection": "close"})


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
