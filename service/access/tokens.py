"""Bearer tokens of an identity provider (JWT, RFC 7519), verified with its public keys (JWKS, RFC 7517) by PyJWT.

Keys come from a file or a URL that the operator gives, and are fetched beside the requests, never within one. Only
asymmetric algorithms are taken. Claims: `scope` (or `scp`) has names of scopes, `sub` names the caller, and
`penumbra_models`, where it is there, lists the models that it is for. Knows nothing of HTTP headers.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

from service.access.callers import Caller, Scope
from service.access.keys import WrongKeys

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEEWAY = 30  # seconds that clocks may differ
_REFRESH_SECONDS = 300.0
# After an unknown key id, which may be a new one, but may be anybody's invention.
_AGAIN_SECONDS = 30.0
_FETCH_SECONDS = 5.0
_LARGEST = 1 << 20  # bytes of keys
_LONGEST_TOKEN = 8192
# A token that was verified is taken for good for so long, and so many of them are remembered.
_REMEMBERED_SECONDS, _REMEMBERED = 60.0, 1024


class _NoRedirects(HTTPRedirectHandler):
    """Keys come from where the operator says, and from nowhere that it leads to."""

    def redirect_request(self, *_: Any) -> None:
        """See HTTPRedirectHandler."""


_OPENER = build_opener(_NoRedirects)


class Tokens:
    """Tokens of one issuer, for one audience.

    Raises WrongKeys if the keys can't be read at first, or where PyJWT is not installed.
    """

    def __init__(self, keys: str, issuer: str, audience: str) -> None:
        try:
            import jwt
        except ImportError:
            raise WrongKeys("tokens need PyJWT: install the extra jwt") from None
        if not issuer or not audience:
            raise WrongKeys("tokens need an issuer and an audience: set --jwt-issuer and --jwt-audience")
        if urlsplit(keys).scheme not in ("", "https") and urlsplit(keys).hostname not in ("127.0.0.1", "::1"):
            raise WrongKeys("--jwt-keys must be a file or an https URL")
        self._jwt = jwt
        self._source, self._issuer, self._audience = keys, issuer, audience
        self._keys: Mapping[str, Any] = {}
        self._fetched = -_REFRESH_SECONDS
        self._unknown = False
        self._remembered: dict[bytes, tuple[Caller, float]] = {}
        self._read()

    def verify(self, token: bytes) -> Caller | None:
        """Whose token it is; None if it is not good."""
        if token.count(b".") != 2 or len(token) > _LONGEST_TOKEN:
            return None
        digest, now = hashlib.sha256(token).digest(), time.time()
        if (known := self._remembered.get(digest)) is not None and now < known[1]:
            return known[0]
        try:
            key = self._keys.get(str(self._jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                self._unknown = True
                return None
            claims = self._jwt.decode(
                token,
                key,
                # A key is for one algorithm: the token has no say in it.
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            caller = _caller(claims)
        except (self._jwt.PyJWTError, UnicodeDecodeError, ValueError):
            return None
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[digest] = caller, min(now + _REMEMBERED_SECONDS, float(claims["exp"]) + _LEEWAY)
        return caller

    def refresh(self) -> None:
        """Fetches the keys again when it is time; what was known counts on if that fails. Not on an event loop."""
        age = time.monotonic() - self._fetched
        if age < (_AGAIN_SECONDS if self._unknown else _REFRESH_SECONDS):
            return
        try:
            self._read()
        except WrongKeys as error:
            logger.error("tokens are verified with the keys known so far: %s", error)  # noqa: TRY400

    def _read(self) -> None:
        self._fetched, self._unknown = time.monotonic(), False
        try:
            keys = self._jwt.PyJWKSet.from_json(self._text()).keys
        except Exception as error:  # noqa: BLE001 - others' bytes, others' parsers: there is more than they say
            raise WrongKeys(f"--jwt-keys (or PENUMBRA_JWT_KEYS): can't be read: {error}") from None
        found = {str(key.key_id): key for key in keys if key.key_id and key.algorithm_name in ALGORITHMS}
        if not found:
            raise WrongKeys("--jwt-keys (or PENUMBRA_JWT_KEYS): has no public key with a kid that can be used")
        self._keys = found
        self._remembered = {}

    def _text(self) -> str:
        if not urlsplit(self._source).scheme:
            return Path(self._source).read_text("utf-8")
        with _OPENER.open(self._source, timeout=_FETCH_SECONDS) as answer:
            content: bytes = answer.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError("it is too large")
        return content.decode("utf-8")


def _caller(claims: Mapping[str, Any]) -> Caller:
    """Whom a token is about; scopes of other services are none of ours. Raises ValueError."""
    granted = claims.get("scope", claims.get("scp", ""))
    words = granted.split() if isinstance(granted, str) else granted
    if not isinstance(words, list):
        raise ValueError("scope is no text and no list")  # noqa: TRY004 - as every claim that is not what it should be
    scopes = frozenset(scope for scope in Scope if scope.value in words)
    models = claims.get("penumbra_models")
    if models is not None and not (isinstance(models, list) and all(isinstance(name, str) for name in models)):
        raise ValueError("penumbra_models is no list of names")
    # A subject can be anything; a digest of it can stand in a log.
    name = "token-" + hashlib.sha256(str(claims["sub"]).encode()).hexdigest()[:12]
    return Caller(name, scopes, None if models is None else frozenset(models))
