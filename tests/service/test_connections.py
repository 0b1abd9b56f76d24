"""How many connections there may be, and that the last word on one arrives."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from service import connections
from service.connections import SPARE, Room, room_for
from tests.api.live import Server
from tests.service.raw import Wire, answers
from tests.service.test_receiving import LIVE, POST, WHOLE, assert_last

MOST = 3
CLOSE = b"Connection: close\r\n\r\n"
ASKED = b"GET /v1/models HTTP/1.1\r\nHost: HOST\r\n\r\n"


class Guest:
    """A connection that can be expelled."""

    expelled = False

    def expel(self) -> None:
        """See Room."""
        self.expelled = True


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    """A service with room for few."""
    running = Server(max_connections=MOST)
    running.client.close()
    yield running
    running.stop()


def test_beyond_the_bound_all_but_health_is_turned_away(narrow: Server) -> None:
    """503 in the form of all problems, and when to come again; when others have left there is room."""
    with ExitStack() as stack:
        taken = [stack.enter_context(Wire(narrow.url)) for _ in range(MOST)]
        for wire in taken:
            assert told(wire, LIVE).startswith(b"HTTP/1.1 200")
        more = stack.enter_context(Wire(narrow.url))
        more.send(WHOLE)
        found = answers(more.rest())
        assert_last(found, 503)
        assert int(found[0][1]["retry-after"]) >= 1
        assert found[0][1]["connection"] == "close"
        protocol = stack.enter_context(Wire(narrow.url))
        protocol.send(WHOLE.replace(b"/v1/models/diabetes/sample", b"/v2/models/diabetes/infer"))
        ((status, headers, body),) = answers(protocol.rest())
        assert (status, headers["content-type"], body[:9]) == (503, "application/json", b'{"error":')
        for path in (b"/health/live", b"/health/ready?probe=1", b"/v2/health/ready"):
            prober = stack.enter_context(Wire(narrow.url))
            prober.send(b"GET " + path + b" HTTP/1.1\r\nHost: HOST\r\n" + CLOSE)
            assert [status for status, _, _ in answers(prober.rest())] == [200]
        # Those that were there first are answered as ever.
        assert told(taken[0], ASKED).startswith(b"HTTP/1.1 200")
    while True:
        with Wire(narrow.url) as wire:
            wire.send(ASKED.replace(b"\r\n\r\n", b"\r\n" + CLOSE))
            if answers(wire.rest())[0][0] == 200:
                break
    assert f"{MOST} connections are open, which is as many as may be" in narrow.output


def told(wire: Wire, asked: bytes) -> bytes:
    """An answer on a connection that stays open: a head, and an object."""
    wire.send(asked)
    said = b""
    while not said.endswith(b"}"):
        said += wire.socket.recv(1 << 16)
    return said


def test_silence_keeps_nobody_out(narrow: Server) -> None:
    """However many connections say nothing, health is answered: the oldest spare one has to go."""
    with ExitStack() as stack:
        silent = [stack.enter_context(Wire(narrow.url)) for _ in range(MOST + SPARE + 5)]
        with Wire(narrow.url) as prober:
            prober.send(LIVE.replace(b"\r\n\r\n", b"\r\n" + CLOSE))
            assert [status for status, _, _ in answers(prober.rest())] == [200]
        assert silent[MOST].rest() == b""


def test_the_oldest_spare_place_goes_first() -> None:
    """Within the bound nobody goes; who was beyond it is within when others have left."""
    room, guests = Room(2), [Guest() for _ in range(2 + SPARE + 1)]
    for guest in guests:
        room.enter(guest)
    assert [guest.expelled for guest in guests] == [False, False, True, *[False] * SPARE]
    last = guests[-1]
    assert (room.holds(guests[0]), room.holds(last)) == (True, False)
    for guest in guests[:-1]:
        room.leave(guest)
    assert room.holds(last)


def test_no_bound_is_no_bound() -> None:
    """0 stands for any number."""
    room, guests = Room(), [Guest() for _ in range(1000)]
    for guest in guests:
        room.enter(guest)
    assert all(room.holds(guest) for guest in guests)


@pytest.mark.parametrize(("most", "files", "room"), [(100, 4096, 100), (4000, 1024, 768), (0, 1024, 768), (9, 10, 1)])
def test_there_are_no_more_connections_than_files(
    monkeypatch: pytest.MonkeyPatch, most: int, files: int, room: int
) -> None:
    """Some are left for everything else; the soft limit is raised to the hard one first."""
    limits = {"now": (min(files, 256), files)}
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(connections.resource, "setrlimit", lambda _, both: limits.update(now=both))
    assert room_for(most) == room
    assert limits["now"] == (files, files)


def test_where_files_have_no_limit_the_setting_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is."""
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert (room_for(0), room_for(10)) == (0, 10)


REFUSED = {
    413: POST + b"Content-Length: %d\r\n\r\n",
    401: POST + b"Content-Length: %d\r\n\r\n",
    400: POST + b"X-Deadline-Ms: 1\r\nX-Deadline-Ms: 1\r\nContent-Length: %d\r\n\r\n",
    431: POST + b"X: " + b"a" * 2**17 + b"\r\nContent-Length: %d\r\n\r\n",
}
UPLOAD = 1 << 24


@pytest.mark.parametrize("status", REFUSED)
def test_who_still_sends_gets_the_answer(start_server: Callable[..., Server], server: Server, status: int) -> None:
    """A refused upload is heard out: sent to its end, then the answer, then the end; not a reset."""
    asked = server if status != 401 else start_server(keys='{"name":"a","sha256":"%s","scopes":["read"]}' % ("0" * 64))
    with Wire(asked.url) as wire:
        wire.send(REFUSED[status] % UPLOAD)
        for _ in range(UPLOAD >> 20):
            wire.socket.sendall(bytes(1 << 20))  # would fail where the connection was reset
        assert_last(answers(wire.rest()), status)


def test_nobody_is_heard_for_ever(server: Server) -> None:
    """After the answer so much is thrown away, and then the connection is gone, whatever more there is to send."""
    with Wire(server.url) as wire:
        wire.send(REFUSED[413] % (1 << 40))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            wire.socket.sendall(bytes(1 << 28))


def test_who_says_nothing_more_is_not_waited_for_long(server: Server) -> None:
    """The answer is there at once and with it the end, though most of the body never came."""
    with Wire(server.url) as wire:
        wire.send(REFUSED[413] % UPLOAD)
        assert_last(answers(wire.rest()), 413)
