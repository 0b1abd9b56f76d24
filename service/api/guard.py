"""Who may pass: the one place where callers are told apart, before anything of their requests is read.

What nobody thought of needs the most: a path that is not public needs a key, and one that is posted to scope admin,
unless it is a question. Knows how paths begin and end, and nothing of what they are for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from starlette.types import Scope as AsgiScope

from service.access.access import Access
from service.access.callers import ANYONE, Scope
from service.errors import Forbidden, MalformedRequest

# Open to everybody, for whoever restarts and routes, and for people who look at the service for the first time.
HEALTH = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"))
PAGES = frozenset(("/", "/docs", "/openapi.json"))
_PARTS_OF_PAGES = ("/swagger/", "/playground/")
# What a browser says of requests that are its reader's own, or of a page of ours; others on this host are not ours.
_SAME_SITE = frozenset((b"same-origin", b"none"))
_LOOKING = frozenset(("GET", "HEAD"))
_QUESTIONS = frozenset(("predict", "sample", "stream", "infer"))
_JOBS = "/v1/jobs"
_OF_MODEL = re.compile(r"/v[12]/(?:repository/)?models/([^/]+)")
_OF_ALL = frozenset(("/metrics",))

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::[0-9]{1,5})?")
_MOST_HOSTS = 1024
# Names that nobody can have registered, as they have no dot, and addresses: for a service on loopback, where a page
# whose name was made to lead here must not ask in its reader's place.
LOCAL = "local"
_LOCAL_NAME = re.compile(r"[^.]+|[0-9.]+|\[.*\]")
# Headers that stand at most once: of two, another server might take the other one.
SINGLE = frozenset(
    (
        b"host",
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"inference-header-content-length",
        b"x-deadline-ms",
        b"idempotency-key",
    )
)


class Guard:
    """Looks at every request's host, headers and key; where nobody needs one, at which page of a browser it comes from.

    Without `access` nobody needs a key; without `hosts` any well-formed one will do, and `local` among them stands for
    all that only this machine or network can mean. `pages` says whether there are any that are open.
    """

    def __init__(self, access: Access | None = None, hosts: Sequence[str] = (), *, pages: bool = True) -> None:
        self._access = access
        self._names = frozenset(host for host in hosts if not host.startswith("*."))
        self._endings = tuple(host.removeprefix("*") for host in hosts if host.startswith("*."))
        self._any, self._local = not hosts, LOCAL in hosts
        self._pages = pages
        self._good: set[bytes] = set()  # hosts as they were sent

    def admit(self, scope: AsgiScope, sent: dict[bytes, bytes]) -> None:
        """Leaves who asks in the scope's state, as soon as it is known.

        Raises MalformedRequest, Unauthenticated, RateExceeded, or Forbidden.
        """
        path: str = scope["path"]
        scope["state"]["caller"] = ANYONE
        if not path.isprintable():  # a line break at its end is overlooked by patterns, and so by locks
            raise MalformedRequest("a path must not have control characters")
        host = sent.get(b"host")
        if host not in self._good:
            self._look_at(host, path)
        access = self._access
        if access is None:
            self._look_whence(scope["method"], sent)
            return
        needed = scope_of(scope["method"], path, pages=self._pages)
        if needed is None:
            return
        caller = scope["state"]["caller"] = access.identify(_secret(sent))
        access.count(caller)
        if needed not in caller.scopes:
            raise Forbidden(f"this key has no scope {needed}")
        if caller.models is not None and not _concerns(path, caller.models):
            raise Forbidden("this key is not for that")

    def _look_whence(self, method: str, sent: dict[bytes, bytes]) -> None:
        """Where nobody needs a key, a page of another site must not ask in its reader's place. Raises Forbidden.

        What it asks for would come without a preflight if it looks like a form. Browsers say where a page is from; to
        look at things is harmless, as the page is not shown the answer.
        """
        if method in _LOOKING or (b"sec-fetch-site" not in sent and b"origin" not in sent):
            return
        site = sent.get(b"sec-fetch-site")
        if site is not None and site not in _SAME_SITE:
            raise Forbidden("a page of another site must not ask this service")
        origin = sent.get(b"origin")
        if site is None and origin is not None and origin.partition(b"://")[2].lower() != sent[b"host"].lower():
            raise Forbidden("a page of another origin must not ask this service")

    def _look_at(self, host: bytes | None, path: str) -> None:
        if host is None:
            raise MalformedRequest("a Host header is needed")
        found = _HOST.fullmatch(host)
        if found is None:
            raise MalformedRequest("the Host header is not a name or an address")
        # Who checks health asks by whatever address it knows.
        if self._any or path in HEALTH:
            known = True
        else:
            name = found[1].decode().lower()
            local = self._local and _LOCAL_NAME.fullmatch(name) is not None
            known = local or name in self._names or (bool(self._endings) and name.endswith(self._endings))
        if not known:
            raise MalformedRequest("the Host header names another service; see the setting allowed-hosts")
        if path not in HEALTH and len(self._good) < _MOST_HOSTS:
            self._good.add(host)


def scope_of(method: str, path: str, *, pages: bool = True) -> Scope | None:
    """What is needed for a request; None: nothing."""
    if path == _JOBS or path.startswith(_JOBS + "/"):
        # To look at one's own answers is a part of asking.
        return Scope.INFER
    if method in _LOOKING:
        if path in HEALTH or (pages and (path in PAGES or path.startswith(_PARTS_OF_PAGES))):
            return None
        return Scope.READ
    if method == "POST":
        if path == "/v2/repository/index":
            return Scope.READ
        if path.rpartition("/")[2] in _QUESTIONS:
            return Scope.INFER
    return Scope.ADMIN


def _concerns(path: str, models: Collection[str]) -> bool:
    """Whether a path is about these models, or about all of which a handler shows what may be seen."""
    # The router takes a path with a line's end for the one without.
    if path in _OF_ALL or not path.isprintable():
        return False
    found = _OF_MODEL.match(path)
    return found is None or found[1] in models or path == "/v2/models/stats"


def _secret(sent: dict[bytes, bytes]) -> bytes | None:
    """The key or token in the headers. Raises MalformedRequest where there are two."""
    authorization, key = sent.get(b"authorization"), sent.get(b"x-api-key")
    if authorization is None:
        return key
    if key is not None:
        raise MalformedRequest("send Authorization or X-API-Key, not both")
    kind, _, secret = authorization.partition(b" ")
    return secret.strip() if kind.lower() == b"bearer" else None
