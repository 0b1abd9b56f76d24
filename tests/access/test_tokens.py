"""Tokens of an identity provider: only whole, fresh ones, meant for us, signed with the provider's own keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from service.access.access import Access
from service.access.callers import Scope
from service.access.keyring import Keyring
from service.access.keys import Key, WrongKeys, hashed, new_secret
from service.access.tokens import Tokens
from service.errors import Unauthenticated
from tests.api.inside import running

ISSUER, AUDIENCE = "https://issuer.test", "penumbra"
KEYS: dict[str, tuple[Any, str]] = {
    "rsa": (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
    "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "ed": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
}
STRANGER = ec.generate_private_key(ec.SECP256R1())


def jwks(*names: str) -> str:
    """The public halves of these keys."""
    keys = []
    for name in names:
        private, algorithm = KEYS[name]
        known = jwt.get_algorithm_by_name(algorithm)
        keys.append({**json.loads(known.to_jwk(private.public_key())), "kid": name, "alg": algorithm, "use": "sig"})
    return json.dumps({"keys": keys})


def token(name: str = "ec", key: Any = None, headers: dict[str, Any] | None = None, **claims: Any) -> bytes:
    """A token signed with a key; claims given as None are left out."""
    private, algorithm = KEYS[name]
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "exp": time.time() + 600, "scope": "read infer"}
    said = {claim: value for claim, value in {**good, **claims}.items() if value is not None}
    return jwt.encode(said, key or private, algorithm, headers={"kid": name, **(headers or {})}).encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The provider's keys."""
    (tmp_path / "jwks.json").write_text(jwks(*KEYS))
    return tmp_path / "jwks.json"


@pytest.fixture
def tokens(file: Path) -> Tokens:
    """What verifies."""
    return Tokens(str(file), ISSUER, AUDIENCE)


@pytest.mark.parametrize("name", KEYS)
def test_a_good_token_says_who_and_what(tokens: Tokens, name: str) -> None:
    """Whichever of the provider's keys signed it, also the second time; scopes of other services are none of ours."""
    for _ in range(2):
        caller = tokens.verify(token(name, scope="read email admin", penumbra_models=["digits"]))
        assert caller is not None
        assert caller.scopes == {Scope.READ, Scope.ADMIN}
        assert caller.models == {"digits"}
        assert "somebody" not in caller.name
    assert tokens.verify(token(name, scope=None, scp=["infer"])).scopes == {Scope.INFER}  # type: ignore[union-attr]
    assert tokens.verify(token(name, scope=None)).scopes == frozenset()  # type: ignore[union-attr]


def forged(algorithm: str, key: Any, **headers: Any) -> bytes:
    """The claims of a good token under another signature."""
    claims = jwt.decode(token(), options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm, headers={"kid": "rsa", **headers}).encode()


@pytest.mark.parametrize(
    "bad",
    [
        token(exp=time.time() - 60),
        token(exp=None),
        token(sub=None),
        token(iss="https://other.test"),
        token(iss=None),
        token(aud="other"),
        token(aud=None),
        token(nbf=time.time() + 600),
        token(key=STRANGER),
        token(headers={"kid": "rsa"}),
        token(headers={"kid": "canary"}),
        token(penumbra_models="digits"),
        token(scope=7),
        forged("none", None),
        forged("HS256", jwks("rsa") * 2),
        token()[:-8] + b"AAAAAAAA",
        token().replace(b".", b".."),
        b"a.b.c",
        b"..",
        b"\xff.\xff.\xff",
        b"x" * 10_000 + b".a.b",
    ],
)  # fmt: skip
def test_anything_else_is_nobody(tokens: Tokens, bad: bytes) -> None:
    """Late, early, for somebody else, by somebody else, by the wrong algorithm, or no token at all."""
    assert tokens.verify(bad) is None


def test_keys_of_a_provider_come_and_go(file: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read again when it is time; a source that is away changes nothing."""
    now = time.monotonic()
    monkeypatch.setattr("service.access.tokens.time.monotonic", lambda: now)
    assert tokens.verify(token("rsa")) is not None
    file.write_text(jwks("ec"))
    tokens.refresh()
    assert tokens.verify(token("rsa")) is not None
    now += 301
    tokens.refresh()
    assert tokens.verify(token("rsa")) is None
    file.write_text(jwks(*KEYS))
    now += 31  # an unknown key id was seen: sooner than usual
    tokens.refresh()
    assert tokens.verify(token("rsa")) is not None
    file.unlink()
    now += 301
    tokens.refresh()
    assert tokens.verify(token("rsa")) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "canary",
        "{}",
        "[]",
        "null",
        '"x"',
        "[" * 5000,
        '{"keys": [1]}',
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a", "alg": "HS256"}]}',
    ],
)
def test_keys_that_are_none_are_told(tmp_path: Path, text: str) -> None:
    """Also shared secrets: whoever verifies with one could sign with it."""
    (tmp_path / "keys").write_text(text)
    with pytest.raises(WrongKeys, match="PENUMBRA_JWT_KEYS"):
        Tokens(str(tmp_path / "keys"), ISSUER, AUDIENCE)


class _Provider(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The keys."""
        if self.path != "/jwks":
            self.send_response(302)
            self.send_header("Location", "/jwks")
            self.end_headers()
            return
        if self.server.garbled:  # type: ignore[attr-defined]
            self.wfile.write(b"BLAH\r\n\r\n")
            return
        body = jwks(*KEYS).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


class _Server(HTTPServer):
    garbled = False

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"http://127.0.0.1:{self.server_port}/jwks"


@pytest.fixture
def provider() -> Iterator[_Server]:
    """A real server with the keys; a `garbled` one speaks no HTTP."""
    server = _Server(("127.0.0.1", 0), _Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_come_from_where_the_operator_says(provider: _Server) -> None:
    """A redirect, which could lead anywhere, is not followed."""
    with pytest.raises(WrongKeys, match="302"):
        Tokens(provider.url.replace("jwks", "elsewhere"), ISSUER, AUDIENCE)


def test_a_provider_that_fails_keeps_no_key_alive(
    provider: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it answers, tokens are verified as before, and a key that is taken out of the file is one no more."""
    now, file, secret = time.monotonic(), tmp_path / "keys", new_secret()
    monkeypatch.setattr("service.access.tokens.time.monotonic", lambda: now)
    kept = Key(name="rd", sha256=hashed(secret.encode()).hex(), scopes=(Scope.READ,))
    file.write_text(kept.line)
    access = Access(Keyring("", file), Tokens(provider.url, ISSUER, AUDIENCE))
    assert access.identify(secret.encode()).name == "rd"
    provider.garbled = True
    now += 301
    access.refresh()
    assert "tokens are verified with the keys known so far" in caplog.text
    file.write_text("")
    access.refresh()
    assert access.identify(token()).scopes == {Scope.READ, Scope.INFER}
    with pytest.raises(Unauthenticated):
        access.identify(secret.encode())


def test_no_bug_of_one_source_stops_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys go on to come and go, whatever is raised while others are looked at."""
    file, secret = tmp_path / "keys", new_secret()
    file.write_text("")
    access = Access(Keyring("", file))
    reads = iter([RuntimeError("a bug")])
    whole = Keyring.refresh

    def refresh(self: Keyring) -> None:
        for failure in reads:
            raise failure
        whole(self)

    monkeypatch.setattr(Keyring, "refresh", refresh)
    access.refresh()
    file.write_text(Key(name="rd", sha256=hashed(secret.encode()).hex(), scopes=(Scope.READ,)).line)
    access.refresh()
    assert access.identify(secret.encode()).name == "rd"


async def test_a_token_opens_the_service(provider: _Server) -> None:
    """Keys from a URL, a token in place of a key; one without the scope is 403, a bad one 401."""
    settings = {"jwt_keys": provider.url, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    async with running(**settings) as (_, client):
        for sent, status in ((token(), 200), (token(scope="infer"), 403), (token(key=STRANGER), 401)):
            headers = {"Authorization": f"Bearer {sent.decode()}"}
            assert (await client.get("/v1/models", headers=headers)).status_code == status
