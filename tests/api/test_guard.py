"""The door: who gets in, whose name counts, what stands twice; by every route that there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st

from service.access.callers import Scope
from service.api import playground
from service.api.answers import SECURITY
from service.api.guard import HEALTH, LOCAL, Guard, scope_of
from service.app import create_app
from service.errors import MalformedRequest
from service.settings import Settings
from tests.access.keys import bearer, make
from tests.api.inside import running
from tests.api.live import Server
from tests.api.wire import PREDICT, ROW, SAMPLE, assert_problem

OPEN = HEALTH | {"/", "/docs", "/openapi.json"}
OF_PAGES = ("/swagger/", "/playground/")
KEYS = {"reader": "read", "asker": "infer", "boss": "admin", "few": "read,infer,admin:diabetes,none"}
BODY = {"inputs": [ROW], "seed": 1}
ASKED = [
    f"/v1/models/diabetes{version}/{verb}" for version in ("", "/versions/1") for verb in ("sample", "sample/stream")
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of keys, and the keys."""
    file = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    return file, make(file, **KEYS)


@pytest.fixture(scope="module")
def guarded(keys: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    """A service that asks for keys."""
    running = Server(keys_file=keys[0])
    yield running
    running.stop()


@pytest.fixture(scope="module")
def as_(keys: tuple[Path, dict[str, str]]) -> Callable[[str], dict[str, str]]:
    """The header of a key by its name."""
    return lambda name: bearer(keys[1][name])


def every_route() -> list[tuple[str, str]]:
    """Verb and path of everything that the application answers to, with examples for parameters."""
    app = create_app(Settings())
    examples = {"name": "diabetes", "version": "1", "path:path": "app.js"}
    return [
        (method, re.sub(r"{([\w:]+)}", lambda found: examples[found[1]], context.path))
        for context in iter_route_contexts(app.routes)
        if context.path
        for method in sorted(context.methods or ())
    ]


ROUTES = every_route()


def test_without_a_key_nothing_is_open_but_health_and_pages(guarded: Server) -> None:
    """Every route of the application, with every verb that it takes, is 401 and says how to send a key."""
    assert len(ROUTES) > 25
    for method, path in ROUTES:
        answer = guarded.client.request(method, path)
        if path in OPEN or path.startswith(OF_PAGES):
            assert answer.status_code in (200, 304), path
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == 'Bearer realm="penumbra"'
            assert "X-API-Key" in answer.text or method == "HEAD"


@pytest.mark.parametrize("path", ["/v1/models", SAMPLE, "/canary", "/metrics", "/v2/models/diabetes/infer"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer canary"},
        {"Authorization": "Basic Y2FuYXJ5OmNhbmFyeQ=="},
        {"Authorization": "canary"},
        {"X-API-Key": ""},
        {"X-API-Key": "canary"},
        {"X-API-Key": "x" * 5000},
        {"Cookie": "key=canary"},
    ],
)
def test_whoever_is_not_known_is_401(guarded: Server, path: str, headers: dict[str, str]) -> None:
    """Whatever else is sent, also to paths that are not there; nothing of it comes back."""
    for method in ("GET", "POST"):
        answer = guarded.client.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert "canary" not in answer.text
        if not path.startswith("/v2"):
            assert_problem(answer, 401)


@pytest.mark.parametrize(
    ("name", "answers"),
    [("reader", (200, 403, 403)), ("asker", (403, 200, 403)), ("boss", (403, 403, 200)), ("few", (200, 200, 200))],
)
def test_each_scope_opens_its_own(
    guarded: Server, as_: Callable[[str], dict[str, str]], name: str, answers: tuple[int, int, int]
) -> None:
    """To see, to ask and to manage are three things; a key may have each of them without the others."""
    client, headers = guarded.client, as_(name)
    looked = [client.get(path, headers=headers) for path in ("/v1/models", "/v1/models/diabetes", "/v2/models/stats")]
    looked.append(client.post("/v2/repository/index", headers=headers))
    asked = [client.post(path, json=BODY, headers=headers) for path in ASKED]
    asked.append(client.post(PREDICT, json={"inputs": [ROW]}, headers=headers))
    managed = [client.post("/v2/repository/models/diabetes/load", headers=headers)]
    for group, status in zip((looked, asked, managed), answers, strict=True):
        assert {answer.status_code for answer in group} == {status}
    for answer in asked:
        if answer.status_code == 403:
            assert assert_problem(answer, 403)["detail"] == "this key has no scope infer"


def test_a_key_for_few_models_sees_no_others(guarded: Server, as_: Callable[[str], dict[str, str]]) -> None:
    """Others are neither listed, nor named in an error, nor told from models that do not exist."""
    client, headers = guarded.client, as_("few")
    assert [model["name"] for model in client.get("/v1/models", headers=headers).json()["models"]] == ["diabetes"]
    index = client.post("/v2/repository/index", headers=headers).json()
    assert {entry["name"] for entry in index} == {"diabetes"}
    stats = client.get("/v2/models/stats", headers=headers).json()["model_stats"]
    assert {entry["name"] for entry in stats} == {"diabetes"}
    for name in ("digits", "canary"):
        for method, path in ROUTES:
            if "diabetes" in path:
                answer = client.request(method, path.replace("diabetes", name), headers=headers)
                assert answer.status_code == 403, path
    missing = client.get("/v1/models/none", headers=headers)
    assert assert_problem(missing, 404)["detail"] == "there is no model of that name; there are: diabetes"
    asked = client.post("/v1/models/none/predict", headers=headers, json={"inputs": [[0]]})
    assert assert_problem(asked, 404)["detail"] == "there is no model of that name; there are: diabetes"


def test_who_may_only_ask_is_not_told_what_there_is(guarded: Server, as_: Callable[[str], dict[str, str]]) -> None:
    """A key without scope read learns no names of models or versions by asking for others."""
    for path in ("/v1/models/none/predict", "/v1/models/none/sample/stream", "/v2/models/none/infer"):
        answer = guarded.client.post(path, headers=as_("asker"), json={})
        assert answer.status_code == 404
        assert "diabetes" not in answer.text
    answer = guarded.client.post("/v1/models/diabetes/versions/99/predict", headers=as_("asker"), json={})
    assert assert_problem(answer, 404)["detail"] == "diabetes has no such version"


@pytest.mark.parametrize("name", ["boss", "reader", "few"])
@pytest.mark.parametrize("path", ["/metrics%0A", "/metrics%0a", "/v1/models/diabetes%0A", "/v2%0a", "/v1/models/%00"])
def test_a_path_has_no_control_characters(
    guarded: Server, as_: Callable[[str], dict[str, str]], path: str, name: str
) -> None:
    """Not for anybody: whoever stands before the service may have locked the path without."""
    for method in ("GET", "POST"):
        assert guarded.client.request(method, path, headers=as_(name)).status_code == 400


UNLOAD, INFER = "/v2/repository/models/none/unload", "/v2/models/diabetes/infer"


@pytest.mark.parametrize("path", [UNLOAD, INFER, SAMPLE])
@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Origin": "http://evil.test"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://HOST:1"}, True),
        ({"Origin": "http://evil.test", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://HOST"}, True),
        ({"Origin": "http://HOST"}, False),
        ({"Origin": "http://HOST", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": "https://proxy.test", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({}, False),
    ],
)
def test_no_page_of_another_site_asks_without_a_key(
    server: Server, path: str, headers: dict[str, str], refused: bool
) -> None:
    """A form on any page could be sent here by its reader's browser; the service's own page may ask."""
    own = {name: value.replace("HOST", httpx.URL(server.url).netloc.decode()) for name, value in headers.items()}
    answer = server.client.post(path, headers={**own, "Content-Type": "application/json"}, content=b"{}")
    assert (answer.status_code == 403) == refused
    assert server.client.get("/v1/models", headers=own).status_code == 200


def test_with_a_key_it_is_the_key_that_counts(guarded: Server, as_: Callable[[str], dict[str, str]]) -> None:
    """No browser sends it along by itself."""
    headers = {**as_("asker"), "Origin": "http://app.test", "Sec-Fetch-Site": "cross-site"}
    assert guarded.client.post(SAMPLE, headers=headers, json=BODY).status_code == 200


def test_metrics_are_about_all_models(guarded: Server, as_: Callable[[str], dict[str, str]]) -> None:
    """Whoever may see only some may not see them."""
    assert guarded.client.get("/metrics", headers=as_("few")).status_code == 403
    assert guarded.client.get("/metrics", headers=as_("reader")).status_code == 200


def test_either_header_carries_a_key_but_not_both(
    guarded: Server, keys: tuple[Path, dict[str, str]], as_: Callable[[str], dict[str, str]]
) -> None:
    """Two keys could be two callers."""
    own = {"X-API-Key": keys[1]["reader"]}
    assert guarded.client.get("/v1/models", headers=own).status_code == 200
    assert guarded.client.get("/v1/models", headers={"authorization": f"bearer {keys[1]['reader']}"}).status_code == 200
    both = guarded.client.get("/v1/models", headers={**own, **as_("boss")})
    assert assert_problem(both, 400)["detail"] == "send Authorization or X-API-Key, not both"


def test_keys_rotate_without_a_restart(guarded: Server, keys: tuple[Path, dict[str, str]]) -> None:
    """A key that is added opens, and one that is taken away no longer does, within moments."""
    file, _ = keys
    before = file.read_text()
    new = make(file, new="read")["new"]

    def status() -> int:
        return guarded.client.get("/v1/models", headers=bearer(new)).status_code

    while status() != 200:
        pass
    file.write_text(before)
    while status() != 401:
        pass


def test_no_key_is_logged(guarded: Server, keys: tuple[Path, dict[str, str]]) -> None:
    """Names of keys are; neither keys nor what was sent in place of one."""
    secrets = [*keys[1].values(), "pen_" + "canary" * 7]
    for secret in secrets:
        guarded.client.get("/v1/models", headers=bearer(secret))
    while '"key":"reader"' not in guarded.output:
        pass
    assert not [secret for secret in secrets if secret in guarded.output or secret[4:] in guarded.output]


async def test_a_rate_is_per_key_and_says_when_to_come_back(tmp_path: Path) -> None:
    """One key that asks too often is 429 with Retry-After; another is served all the while."""
    file = tmp_path / "keys.jsonl"
    made = make(file, flooder="read", other="read")
    file.write_text(file.read_text().replace('"flooder"', '"flooder","rate":"3/hour"'))
    async with running(keys_file=str(file)) as (_, client):
        statuses = []
        for _ in range(10):
            answer = await client.get("/v1/models", headers=bearer(made["flooder"]))
            statuses.append(answer.status_code)
            assert (await client.get("/v1/models", headers=bearer(made["other"]))).status_code == 200
        assert statuses == [200] * 3 + [429] * 7
        assert assert_problem(answer, 429)["type"] == "urn:penumbra:problem:rate-exceeded"
        assert 3500 < int(answer.headers["retry-after"]) <= 3600
        metrics = (await client.get("/metrics", headers=bearer(made["other"]))).text
        assert 'penumbra_shed_total{reason="rate"} 7.0' in metrics


LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
GOOD_HOSTS = [
    "localhost",
    "LocalHost:80",
    "127.0.0.1:8000",
    "[::1]",
    "[::1]:8000",
    "a.example.com",
    "x.y.Example.com:1",
]
BAD_HOSTS = ["evil.test", "example.com", "notexample.com", "localhost.evil.test", "127.0.0.1.evil.test"]
MALFORMED_HOSTS = [
    "",
    "a b",
    "a/b",
    "a@localhost",
    "localhost:80:80",
    "localhost:x",
    "[::1",
    "::1",
    "a,b",
    "é",
    "a\tb",
    "localhost#",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_a_host_that_is_listed_is_taken(host: str) -> None:
    """Capitals and ports make no difference."""
    assert scope_after(host, *LOOPBACK_HOSTS, "*.example.com")["state"]


@pytest.mark.parametrize("host", [*BAD_HOSTS, *MALFORMED_HOSTS])
def test_another_host_is_refused(host: str) -> None:
    """Twice, as what is refused once is not remembered as good; with no list at all only its form counts."""
    guard = Guard(None, (*LOOPBACK_HOSTS, "*.example.com"))
    for _ in range(2):
        with pytest.raises(MalformedRequest):
            admit(guard, host)
    if host in MALFORMED_HOSTS:
        with pytest.raises(MalformedRequest):
            admit(Guard(), host)
    else:
        admit(Guard(), host)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:80", "box", "192.0.2.1:8000"])
def test_local_is_what_nobody_can_register(host: str) -> None:
    """Addresses, and names without a dot; every other name could be somebody's who wishes no good."""
    assert scope_after(host, LOCAL)["state"]
    for foreign in ("evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "1.2.3.a", "box."):
        with pytest.raises(MalformedRequest):
            scope_after(foreign, LOCAL)


@given(st.text(max_size=30))
def test_no_host_is_good_by_accident(host: str) -> None:
    """What passes a list of one name is that name, with or without a port."""
    try:
        admit(Guard(None, ("only.test",)), host)
    except MalformedRequest:
        return
    assert re.fullmatch(r"only\.test(:[0-9]{1,5})?", host.lower(), re.ASCII)


def scope_after(host: str, *hosts: str) -> dict[str, dict[str, object]]:
    """A request's scope after a guard with these hosts let it pass."""
    return admit(Guard(None, hosts), host)


def admit(guard: Guard, host: str) -> dict[str, dict[str, object]]:
    """Asks to be let in."""
    scope: dict[str, dict[str, object]] = {"method": "GET", "path": "/v1/models", "state": {}}  # type: ignore[dict-item]
    guard.admit(scope, {b"host": host.encode("utf-8", "surrogatepass")})
    return scope


def test_a_page_from_elsewhere_can_not_ask(server: Server) -> None:
    """A service on loopback takes no name that leads here by somebody else's will: 400, but for health."""
    evil = {"Host": "evil.test"}
    for answer in (
        server.client.get("/v1/models", headers=evil),
        server.client.post(SAMPLE, json=BODY, headers=evil),
        server.client.get("/docs", headers=evil),
    ):
        assert "allowed-hosts" in assert_problem(answer, 400)["detail"]
    assert server.client.get("/health/live", headers=evil).status_code == 200
    assert server.client.get("/health/live", headers={"Host": "evil test"}).status_code == 400


@pytest.mark.parametrize("header", ["Content-Type", "Content-Encoding", "Authorization", "X-API-Key", "X-Deadline-Ms"])
def test_what_stands_once_may_not_stand_twice(server: Server, header: str) -> None:
    """Of two, another server might take the other one: 400. Other headers are taken as they come."""
    answer = server.client.post(SAMPLE, content=b"{}", headers=[(header, "5"), (header, "5")])
    assert assert_problem(answer, 400)["detail"] == f"the header {header.lower()} may be sent once"
    accepted = server.client.get("/v1/models", headers=[("Accept", "a/b"), ("Accept", "c/d")])
    assert accepted.status_code == 200


@given(method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "canary"]), path=st.text(max_size=40))
def test_what_nobody_thought_of_needs_a_key(method: str, path: str) -> None:
    """Only what is listed needs nothing; whatever changes something needs admin, but for questions."""
    needed = scope_of(method, f"/{path}")
    if needed is None:
        assert f"/{path}" in OPEN or f"/{path}".startswith(OF_PAGES)
    elif method not in ("GET", "HEAD") and needed is not Scope.ADMIN:
        assert method == "POST"
        assert path.rpartition("/")[2] in ("predict", "sample", "stream", "infer", "index")


async def test_pages_can_be_switched_off() -> None:
    """Then they are as unknown as any other path, and nothing about them is open."""
    async with running(docs=False) as (_, client):
        for path in ("/", "/playground/app.js", "/docs", "/openapi.json", "/swagger/swagger-ui.css"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/health/ready")).status_code == 200
    assert scope_of("GET", "/docs", pages=False) is scope_of("GET", "/", pages=False) is Scope.READ


def test_browsers_are_told_to_believe_nothing(server: Server) -> None:
    """Every answer is what it says it is and no page, and the page of the docs runs nothing from elsewhere."""
    for answer in (
        server.client.get("/v1/models"),
        server.client.post(SAMPLE, json=BODY),
        server.client.get("/canary"),
        server.client.get("/v1/models", headers={"Host": "evil.test"}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for path in ("/", "/playground/app.js", "/playground/canary.js"):
        own = SECURITY[1][1].decode() if "canary" in path else playground.POLICY
        assert server.client.get(path).headers.get_list("content-security-policy") == [own]
    docs = server.client.get("/docs").headers["content-security-policy"]
    assert docs.startswith("default-src 'self'")
    assert "http" not in docs
