"""Connections of callers who are slow, or do not speak HTTP: one answer at most, as a problem, and an end."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator
from itertools import count, islice

import orjson
import pytest

from service.access.callers import Scope
from service.access.keys import Key, hashed, new_secret
from service.connections import Room
from service.receiving import CROWDED_SECONDS, KEEP_SECONDS, MOST_HEADER_BYTES, MOST_HEADERS, look_after
from tests.api.live import Server
from tests.api.wire import ROW
from tests.service.near import connection
from tests.service.raw import PATIENCE, Wire, exchange

BODY = orjson.dumps({"inputs": [ROW], "samples": 2, "seed": 1})
POST = b"POST /v1/models/diabetes/sample HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
LIVE = b"GET /health/live HTTP/1.1\r\nHost: HOST\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

BROKEN = {
    "both lengths": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + LIVE,
    "both, the other way": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + LIVE,
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    "two equal lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\n12345",
    "a negative length": POST + b"Content-Length: -5\r\n\r\n12345",
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\n12345",
    "a length in hexadecimal": POST + b"Content-Length: 0x5\r\n\r\n12345",
    "an endless length": POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, hidden": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + LIVE,
    "chunked, compressed": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + LIVE,
    "another coding": POST + b"Transfer-Encoding: canary\r\n\r\n0\r\n\r\n" + LIVE,
    "space before the colon": POST + b"Content-Length : 5\r\n\r\n12345",
    "a chunk that is longer": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "a chunk without a size": CHUNKED + b"canary\r\n0\r\n\r\n",
    "a chunk of a negative size": CHUNKED + b"-1\r\n\r\n0\r\n\r\n",
    "a chunk of endless size": CHUNKED + b"f" * 40 + b"\r\n",
    "lines that end with LF": CHUNKED + b"1\nx\n0\n\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n",
    "two hosts, one hidden": b"GET /v1/models HTTP/1.1\r\nHost: HOST\r\n Host: canary\r\n\r\n",
    "a target elsewhere": b"GET http://canary.test/v1/models HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a target without a path": b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a tunnel": b"CONNECT canary.test:443 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a byte that is no text": b"GET /v1/models HTTP/1.1\r\nHost: HOST\r\nX: a\x00canary\r\n\r\n",
    "a folded header": b"GET /v1/models HTTP/1.1\r\nHost: HOST\r\nX: a\r\n canary\r\n\r\n",
    "an unknown verb": b"CANARY /v1/models HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a path with spaces": b"GET /v1/models canary HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "another version": b"GET /v1/models HTTP/3.1\r\nHost: HOST\r\n\r\n",
    "version 2": b"GET /v1/models HTTP/2.0\r\nHost: HOST\r\n\r\n",
    "version 0.9": b"GET /v1/models HTTP/0.9\r\nHost: HOST\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing that HTTP knows": b"\x00\x01\x02canary\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


_KEY = new_secret().encode()
READ = b"GET /v1/models/diabetes HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nX-API-Key: " + _KEY + b"\r\n\r\n"
ADMIN = b"POST /v2/repository/models/diabetes/VERB HTTP/1.1\r\nHost: HOST\r\nX-API-Key: " + _KEY
ADMIN += b"\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A service that wants a key."""
    running = Server(keys=Key(name="boss", sha256=hashed(_KEY).hex(), scopes=tuple(Scope)).line)
    yield running
    running.stop()


def assert_last(found: list[tuple[int, dict[str, str], bytes]], status: int) -> None:
    """The only answer: a problem, and the connection is closed after it."""
    ((code, headers, body),) = found
    assert code == status
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    problem = orjson.loads(body)
    assert list(problem) == ["type", "title", "status", "detail", "errors", "request_id"]
    assert problem["status"] == status
    assert problem["request_id"] == headers["x-request-id"]
    assert b"canary" not in body


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_ambiguous_or_broken_is_one_400(server: Server, kind: str) -> None:
    """What follows on the connection is not looked at: nothing can be smuggled past whoever stands before."""
    assert_last(exchange(server.url, [BROKEN[kind]]), 400)


@pytest.mark.parametrize("kind", ["both lengths", "a chunk that is longer", "no host", "two hosts", "folded"])
def test_it_is_the_same_a_byte_at_a_time(server: Server, kind: str) -> None:
    """However the bytes arrive."""
    data = BROKEN.get(kind, BROKEN["a folded header"])
    assert_last(exchange(server.url, [data[place : place + 1] for place in range(len(data))]), 400)


INFER = WHOLE.replace(b"/v1/models/diabetes/sample", b"/v2/models/diabetes/infer")


@pytest.mark.parametrize(
    "data",
    [
        INFER.replace(b"Content-Type", b"Content-Length: 3\r\nContent-Type"),
        INFER.replace(b"POST", b"CANARY"),
        INFER.replace(b"/v2/", b"http://HOST/v2/"),
        INFER.replace(b"HTTP/1.1", b"HTTP/3.1"),
    ],
    ids=["lengths", "verb", "target", "version"],
)
def test_under_v2_it_has_the_protocols_form(server: Server, data: bytes) -> None:
    """{"error": …}, like every other error there, also where the very first line can't be read."""
    ((status, headers, body),) = exchange(server.url, [data])
    assert (status, headers["content-type"]) == (400, "application/json")
    assert list(orjson.loads(body)) == ["error"]


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t  "])
def test_white_space_behind_a_value_is_no_part_of_it(server: Server, space: bytes) -> None:
    """RFC 9110, 5.5."""
    headers = [
        b"Host: HOST",
        b"X-Deadline-Ms: 60000",
        b"Content-Encoding: identity",
        b"X-Request-ID: canary",
        b"Content-Type: application/json",
        b"Connection: close",
        b"Content-Length: %d" % len(BODY),
    ]
    head = b"".join(header + space + b"\r\n" for header in headers)
    ((status, found, _),) = exchange(
        server.url, [b"POST /v1/models/diabetes/sample HTTP/1.1\r\n" + head + b"\r\n" + BODY]
    )
    assert (status, found["x-request-id"]) == (200, "canary")


@pytest.mark.parametrize("path", [b"/v1/models/diabetes/sample", b"/v2/models/diabetes/infer"])
def test_a_path_does_not_end_with_a_line_break(server: Server, path: bytes) -> None:
    """Patterns that end with $ would overlook one."""
    data = WHOLE.replace(b"/v1/models/diabetes/sample", path + b"%0a")
    ((status, _, _),) = exchange(server.url, [data])
    assert status == 400


def test_what_came_before_is_answered(server: Server) -> None:
    """Two good requests and a broken one in a row: two answers, then the end, and no third among them."""
    found = exchange(server.url, [WHOLE + WHOLE + b"canary\r\n\r\n"])
    assert [status for status, _, _ in found] == [200, 200]
    assert found[0][2] == found[1][2]
    assert found[1][1]["connection"] == "close"


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * 2**20,
        b"X: " + b"a" * (MOST_HEADER_BYTES + 1),
        b"".join(b"X-%d: a\r\n" % number for number in range(5000)),
        b"".join(b"X-%d: a\r\n" % number for number in range(MOST_HEADERS + 1)),
    ],
    ids=["a megabyte", "just too large", "5000 headers", "just too many"],
)
@pytest.mark.parametrize("ended", [True, False])
def test_headers_are_bounded(server: Server, head: bytes, ended: bool) -> None:
    """Too large or too many of them are 431 as soon as that is known."""
    data = b"GET /v1/models HTTP/1.1\r\nHost: HOST\r\n" + head + b"\r\n\r\n" * ended
    assert_last(exchange(server.url, [data]), 431)


def test_a_long_target_is_part_of_them(server: Server) -> None:
    """The request line counts, too."""
    assert_last(exchange(server.url, [b"GET /" + b"a" * 2**17 + b" HTTP/1.1\r\nHost: HOST\r\n\r\n"]), 431)


def test_as_many_headers_as_may_be_are_read(server: Server) -> None:
    """One less than too many."""
    many = b"".join(b"X-%d: a\r\n" % number for number in range(MOST_HEADERS - 2))
    data = b"GET /health/live HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n" + many + b"\r\n"
    assert [status for status, _, _ in exchange(server.url, [data])] == [200]


def test_what_follows_a_body_in_chunks_is_no_header(server: Server) -> None:
    """Trailers change nothing: neither the id, nor who asks, nor how long the body was."""
    trailers = b"X-Request-ID: canary\r\nContent-Type: text/plain\r\nX-API-Key: canary\r\n"
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    data = head + b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY) + trailers + b"\r\n"
    ((status, headers, _),) = exchange(server.url, [data])
    assert status == 200
    assert headers["x-request-id"] != "canary"


@pytest.mark.parametrize(
    "much",
    [b"X: " + b"a" * 2**22, b"X: a\r\n" * 2**20, b"0" * 2**22],
    ids=["a long trailer", "many trailers", "a long size"],
)
@pytest.mark.parametrize("path", [b"/v1/models/diabetes/sample", b"/health/live"])
def test_what_is_no_body_is_bounded_behind_the_headers_too(server: Server, much: bytes, path: bytes) -> None:
    """The parser holds it until it ends, and looks at all of it each time: it may be as long as headers may."""
    head = CHUNKED.replace(b"/v1/models/diabetes/sample", path)
    start = head + (b"" if much[:1] == b"0" else b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY))
    places = range(0, len(much), 1 << 16)
    found = exchange(server.url, [start, *(much[place : place + (1 << 16)] for place in places)])
    assert [status for status, _, _ in found] in ([431], [200], [405])  # one that had its answer before is closed
    assert server.client.get("/health/live").status_code == 200


def test_nothing_is_done_of_what_stands_behind_a_refusal(guarded: Server) -> None:
    """Whoever is refused is told so, and the connection ends: a request behind it would be done without an answer."""
    refused = b"POST /v1/models/diabetes/sample HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"
    for behind in (LIVE, ADMIN.replace(b"VERB", b"unload")):
        assert_last(exchange(guarded.url, [refused + behind]), 401)
    ((status, _, body),) = exchange(guarded.url, [READ])
    assert status == 200
    assert b'"name":"diabetes"' in body
    assert "Error" not in guarded.output


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"canary"])
def test_nobody_is_led_to_another_protocol(server: Server, upgrade: bytes) -> None:
    """A request that would like one is answered as it stands, and what it would have said there is not obeyed."""
    wish = b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"
    data = b"GET /health/live HTTP/1.1\r\nHost: HOST\r\n" + wish + b"\r\n"
    with Wire(server.url) as wire:
        wire.send(data + b"canary")
        assert wire.socket.recv(12) == b"HTTP/1.1 200"


@pytest.fixture(scope="module")
def brisk() -> Iterator[Server]:
    """A service that is not patient."""
    running = Server(receive_seconds=0.5)
    yield running
    running.stop()


@pytest.mark.parametrize(
    "begun",
    [
        b"G",
        b"GET /v1/models HTTP/1.1\r\n",
        POST,
        POST + b"Content-Length: 100\r\n\r\n",
        CHUNKED + b"5\r\nab",
        WHOLE[:-1],
    ],
    ids=["a byte", "a line", "some headers", "no body", "part of a chunk", "all but a byte"],
)
@pytest.mark.parametrize("before", [b"", LIVE])
def test_who_does_not_go_on_is_let_go(brisk: Server, begun: bytes, before: bytes) -> None:
    """A request that does not arrive is 408, whatever is missing."""
    found = exchange(brisk.url, [before, begun])
    if before:
        assert found.pop(0)[0] == 200
    assert_last(found, 408)


def test_who_asks_nothing_is_left_without_a_word(brisk: Server) -> None:
    """Who connects and is silent."""
    assert exchange(brisk.url, [b""]) == []


def test_who_sends_a_byte_now_and_then_is_let_go_too(brisk: Server) -> None:
    """It is the whole that counts, not each byte."""
    with Wire(brisk.url) as wire:
        wire.send(b"GET /v1/models HTTP/1.1\r\n")
        wire.socket.settimeout(0.05)
        said = b""
        while not said:
            wire.send(b"X: a\r\n")
            try:
                said = wire.socket.recv(12)
            except TimeoutError:
                continue
    assert said == b"HTTP/1.1 408"


MANY = [number / 33 for number in range(1, 33)]


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize(
    ("path", "options"),
    [(b"/sample", {"samples": 1000, "return_draws": True}), (b"/sample/stream", {"samples": 2000, "quantiles": MANY})],
    ids=["answer", "stream"],
)
def test_who_takes_nothing_of_an_answer_is_let_go(
    brisk: Server, path: bytes, options: dict[str, object], close: bytes
) -> None:
    """An answer that nobody reads does not stay in memory: the connection is cut in the middle of it."""
    asked = orjson.dumps({"inputs": [ROW] * 1000, "seed": 1, **options})
    post = POST.replace(b"/sample", path) + close
    with Wire(brisk.url) as wire:
        wire.send(post + b"Content-Length: %d\r\n\r\n" % len(asked) + asked)
        poll = select.poll()
        poll.register(wire.socket, select.POLLHUP | select.POLLERR)
        assert poll.poll(1000 * PATIENCE)
    assert brisk.client.get("/health/live").status_code == 200


@pytest.mark.parametrize("closing", [False, True])
async def test_who_takes_a_little_is_not_let_go(closing: bool) -> None:
    """However slowly, and also when nothing is to follow; who then takes nothing for too long is."""
    protocol, far = await connection()
    hours = count(0.0, 3600.0)
    with far:
        protocol.transport.write(bytes(1 << 24))
        if closing:
            protocol.transport.close()
        for now in islice(hours, 20):
            protocol.look(now, 3599)
            await taken(far, 1 << 18)
        assert protocol in protocol.connections
        while protocol in protocol.connections:
            protocol.look(next(hours), 3599)
            await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError):
            await taken(far, 1 << 24)


async def test_who_has_taken_all_owes_nothing() -> None:
    """However long nothing more is asked: that is another clock's concern."""
    protocol, far = await connection()
    with far:
        protocol.transport.write(b"canary")
        await taken(far, 6)
        for hour in range(3):
            protocol.look(3600.0 * hour, 1)
        assert not protocol.transport.is_closing()
        protocol.transport.close()


async def test_who_asks_nothing_for_long_is_closed() -> None:
    """But not while an answer is awaited, however long that takes."""
    protocol, far = await connection()
    with far:
        loop = asyncio.get_running_loop()
        far.send(b"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert (await loop.sock_recv(far, 1 << 16)).startswith(b"HTTP/1.1 204")
        protocol.look(loop.time() + KEEP_SECONDS - 1, 1)
        assert not protocol.transport.is_closing()
        protocol.look(loop.time() + KEEP_SECONDS + 1, 1)
        assert protocol.transport.is_closing()


@pytest.mark.parametrize(("most", "stays"), [(0, True), (2, True), (1, False)])
async def test_who_asks_nothing_more_makes_room(most: int, stays: bool) -> None:
    """While there is room a connection is kept for whoever may ask again; where there is none, for a short time."""
    protocol, far = await connection(Room(most))
    with far:
        far.send(b"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert (await asyncio.get_running_loop().sock_recv(far, 1 << 16)).startswith(b"HTTP/1.1 204")
        now = asyncio.get_running_loop().time()
        protocol.look(now + CROWDED_SECONDS - 1, 60)
        assert not protocol.transport.is_closing()
        protocol.look(now + CROWDED_SECONDS + 1, 60)
        assert protocol.transport.is_closing() != stays
        protocol.transport.close()


async def taken(far: socket.socket, size: int) -> None:
    """Takes so much of what has been sent."""
    while size > 0:
        size -= len(await asyncio.get_running_loop().sock_recv(far, size))


def test_a_patient_caller_is_not_let_go_for_our_slowness(start_server: Callable[..., Server]) -> None:
    """While an answer is computed, however long, nobody owes us anything."""
    running = start_server(receive_seconds=0.1)
    asked = orjson.dumps({"inputs": [ROW] * 2000, "samples": 400, "seed": 1})
    data = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(asked) + asked
    assert [status for status, _, _ in exchange(running.url, [data])] == [200]


async def test_of_connections_one_that_fails_does_not_end_looking(caplog: pytest.LogCaptureFixture) -> None:
    """It is closed, and those that come after it are looked after."""
    (bad, bad_end), (good, good_end) = [await connection() for _ in range(2)]

    def fail(*_: float) -> None:
        raise OSError(22, "Invalid argument")

    bad.look = fail  # type: ignore[method-assign]
    good.owing = 0.0  # it began to ask long ago
    with bad_end, good_end:
        look_after([bad, object(), good], 15.0)
        assert bad.transport.is_closing()
        assert good.transport.is_closing()
        await asyncio.sleep(0)
    assert "a connection could not be looked after, and is closed" in caplog.text
