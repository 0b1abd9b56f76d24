"""The door: every request gets its id, is let in or not, is observed when it leaves; hot routes go past the framework.

The hot routes stay in the router, for its 405s and its table of contents; who gets to them that way gets the same
answer. Knows nothing of what the routes are for.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import cached_property
from itertools import count
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.access.callers import ANYONE
from service.api import problems
from service.api.answers import SECURITY, security
from service.api.edge import Answer, Exchange, is_large
from service.api.guard import SINGLE, Guard
from service.cycle import WHOLE_BYTES, whole
from service.errors import MalformedRequest
from service.telemetry.counting import OTHER
from service.telemetry.observer import Observer
from service.telemetry.trail import Trail

Handler = Callable[[Exchange], Awaitable[Answer]]

_LOOKED_AT = SINGLE | {b"x-request-id", b"if-none-match", b"origin", b"sec-fetch-site"}
# In a scope's state: it has been looked at, and let in.
_LET_IN = "let_in"
# Paths that are remembered.
_MOST_PATHS, _LONGEST_PATH = 1024, 256
_SANE_ID = re.compile(rb"[A-Za-z0-9._~:/=+@-]{1,128}")


class Application(FastAPI):
    """A FastAPI application with a door.

    Gives each request an id, the caller's if it is sane, and returns it as X-Request-ID. The guard says who it is that
    asks, or refuses, before anything is read. `hot` is a table from paths, whose parameters are names, to the handlers
    that are POSTed to. The observer is told of every answer.
    """

    def __init__(self, hot: Mapping[str, Handler], observer: Observer, guard: Guard, **options: Any) -> None:
        super().__init__(**options)
        self.observer, self.guard = observer, guard
        self._hot: dict[str, list[Route]] = {}
        for path, handle in hot.items():
            route = Route(path, Hot(handle, path), methods=["POST"])
            self._hot.setdefault(_last_part(path), []).append(route)
            self.router.routes.append(route)
        self._found: dict[str, _Found] = {}
        # Ids of one's own: nobody else has the first half, and each is numbered in the second.
        self._mine = secrets.token_hex(8).encode()
        self._number = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        state, path = scope.setdefault("state", {}), scope["path"]
        if _LET_IN not in state:
            refusal = self.refusal(scope)
            if refusal is not None:
                await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
                body = b"" if scope["method"] == "HEAD" else refusal.body
                await send({"type": "http.response.body", "body": body})
                return
        if scope["method"] == "POST":
            found = self._find(path)
            if found is not None:
                scope["app"] = self
                scope["path_params"] = found[1]
                await found[0](scope, receive, send)
                return

        request_id = state["request_id"]
        trail = Trail(request_id, scope["method"], OTHER, "", state["caller"].name)
        if self.observer.tracer is not None:
            self.observer.tracer.begin(trail, scope)
        only_head = scope["method"] == "HEAD"
        if only_head:  # is answered as GET is, but for the body
            scope = {**scope, "method": "GET"}

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._observe(trail, scope, message["status"])
                headers = dict([*security(path), *message["headers"], (b"x-request-id", request_id)])
                message = {**message, "headers": list(headers.items())}
            elif only_head:
                message = {**message, "body": b""}
            await send(message)

        await super().__call__(scope, receive, send_with_id)

    def refusal(self, scope: Scope) -> problems.Problem | None:
        """The whole answer to a request that is not let in; None: it is. Told by its headers: no more need have come.

        Large requests to hot routes are not let in where they would come to nothing, unless the caller may have the
        answer already. Whoever serves this application may ask before it makes a task: under a flood most of what
        comes is refused, and takes its time from what is not.
        """
        sent, twice = _looked_at(scope["headers"])
        request_id = sent.get(b"x-request-id", b"")
        if not _SANE_ID.fullmatch(request_id):
            request_id = b"%b%016x" % (self._mine, next(self._number))
        state = scope.setdefault("state", {})
        state["request_id"], state["caller"] = request_id, ANYONE
        found = None
        try:
            if twice:
                raise MalformedRequest(f"the header {twice.decode()} may be sent once")
            self.guard.admit(scope, sent)
            if scope["method"] == "POST" and is_large(sent) and b"if-none-match" not in sent:
                found = self._find(scope["path"])
                if found is not None:
                    self.state.inference.foresee(state["caller"].name)
        except problems.KNOWN as error:
            return self._refused(scope, error, found)
        state[_LET_IN] = True
        return None

    def _refused(self, scope: Scope, error: Exception, found: _Found | None) -> problems.Problem:
        path, caller, request_id = scope["path"], scope["state"]["caller"], scope["state"]["request_id"]
        route, name = (OTHER, "") if found is None else (found[0].route, found[1].get("name", ""))
        trail = Trail(request_id, scope["method"], route, name, caller.name)
        if found is not None and self.observer.tracer is not None:
            self.observer.tracer.begin(trail, scope)
        status, headers, body = problems.of(error, request_id, path, caller.may_look_at)
        self.observer.answered(trail, status, error)
        headers += [(b"content-length", b"%d" % len(body)), (b"x-request-id", request_id), *SECURITY]
        return problems.Problem(status, headers, body)

    def _find(self, path: str) -> _Found | None:
        """The hot route of a path, and its parameters, which are remembered: nobody changes them."""
        if known := self._found.get(path):
            return known
        for route in self._hot.get(_last_part(path), ()):
            if match := route.path_regex.match(path):
                assert isinstance(route.app, Hot), "a hot route leads elsewhere. This is a bug."
                found = route.app, match.groupdict()
                if len(path) <= _LONGEST_PATH:  # what comes is its callers' to choose
                    if len(self._found) >= _MOST_PATHS:
                        self._found.clear()
                    self._found[path] = found
                return found
        return None

    @cached_property
    def templates(self) -> Mapping[Any, str]:
        """The path templates of all routes, by their endpoints."""
        return {each.endpoint: each.path for each in iter_route_contexts(self.routes) if each.path}

    def _observe(self, trail: Trail, scope: Scope, status: int) -> None:
        """Tells of an answer that the framework gives, by the template of the route that it found."""
        endpoint = scope.get("endpoint")
        if isinstance(endpoint, Hot) and scope["method"] == "POST":
            return  # it has told of itself
        # Of two routes with one endpoint FastAPI says which it was.
        trail.route = getattr(scope.get("route"), "path", None) or self.templates.get(endpoint, OTHER)
        trail.name = scope.get("path_params", {}).get("name", "")
        self.observer.answered(trail, status)


class Hot:
    """A handler as an ASGI application; `route` is its path's template."""

    def __init__(self, handle: Handler, route: str) -> None:
        self._handle, self.route = handle, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. A bug is answered, and then raised for the server to log it and to drop the connection."""
        exchange, observer = Exchange(scope, receive, self.route), scope["app"].observer
        if observer.tracer is not None:
            observer.tracer.begin(exchange, scope)
        bug: Exception | None = None
        try:
            status, headers, body = await self._handle(exchange)
        except problems.KNOWN as error:
            status, headers, body = problems.of(error, exchange.request_id, scope["path"], exchange.may_look_at)
            observer.answered(exchange, status, error)
            # Futures that it went through keep it, and it would keep what was read of the body: for long, as few
            # objects are made here that the garbage collector counts.
            error.__traceback__ = None
        except Exception as error:  # noqa: BLE001 - it is raised again below
            bug = error
            status, headers, body = problems.of_bug(exchange.request_id, scope["path"])
            observer.answered(exchange, status, error)
        else:
            observer.answered(exchange, status)
        if status != 304 and isinstance(body, bytes):
            headers.append((b"content-length", b"%d" % len(body)))
        headers += ((b"x-request-id", exchange.request_id), *SECURITY)
        answer = whole(send)
        if answer is None or not isinstance(body, bytes) or not answer(status, headers, body):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            if isinstance(body, bytes):
                await _send(send, body, last=True)
            else:
                await _send_all(send, body)
        if bug is not None:
            raise bug


# A hot route, and what its path's parameters are.
_Found: TypeAlias = tuple[Hot, dict[str, str]]


async def _send(send: Send, body: bytes, *, last: bool) -> None:
    for start in range(0, len(body) or 1, WHOLE_BYTES):
        more = start + WHOLE_BYTES < len(body) or not last
        await send({"type": "http.response.body", "body": body[start : start + WHOLE_BYTES], "more_body": more})


async def _send_all(send: Send, chunks: AsyncIterator[bytes]) -> None:
    """Sends chunks as they come, at the pace of the connection: none is asked for before the last one is on its way."""
    async for chunk in chunks:
        await _send(send, chunk, last=False)
    await _send(send, b"", last=True)


def _looked_at(headers: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], bytes]:
    """The headers that are looked at here, and one of them that stands there twice, or nothing."""
    found = [header for header in headers if header[0] in _LOOKED_AT]
    sent = dict(found)
    if len(sent) == len(found):
        return sent, b""
    names = [name for name, _ in found]
    return dict(reversed(found)), next((name for name in names if name in SINGLE and names.count(name) > 1), b"")


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]
