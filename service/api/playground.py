"""The playground: a page at `/` where people see uncertainty, and the files that it is made of.

They are read once, when the service starts, and served under a policy that lets the page load from this service and
talk to it, and to nothing else. Knows nothing of what is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FILES = Path(__file__).resolve().parent.parent / "playground"
# What is not in this table is not served: the list of what is vendored, say.
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
# No script or style but from files, and nothing in the page can turn text into markup (Trusted Types).
_RULES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "font-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
POLICY = "; ".join(f"{what} {allowed}" for what, allowed in _RULES.items())
_HEADERS = {
    # Asked for each time, and sent only if it changed: after an upgrade nobody has half of an old page.
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class File:
    """One file of the page, ready to be sent."""

    __slots__ = ("body", "headers", "tag")

    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.tag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'
        self.headers = {**_HEADERS, "content-type": _MEDIA_TYPES[path.suffix], "etag": self.tag}


def read(folder: Path) -> Iterator[tuple[str, File]]:
    """Every file below a folder that may be served, by its path in it."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in _MEDIA_TYPES:
            yield path.relative_to(folder).as_posix(), File(path)


router = APIRouter(include_in_schema=False)
_FILES = dict(read(FILES))


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page."""
    return _answer(request, "index.html")


@router.api_route("/playground/{path:path}", methods=["GET", "HEAD"])
async def part(request: Request, path: str) -> Response:
    """A script, style, typeface or image of the page."""
    return _answer(request, path)


def _answer(request: Request, path: str) -> Response:
    file = _FILES.get(path)
    if file is None:
        raise HTTPException(404)
    known = request.headers.get("if-none-match", "")
    if any(tag.strip().removeprefix("W/") == file.tag for tag in known.split(",")):
        return Response(status_code=304, headers={**_HEADERS, "etag": file.tag})
    return Response(file.body, headers=file.headers)
