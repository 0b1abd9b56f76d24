"""What is there as a whole is taken and given as a whole, and nobody can tell."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.types import Receive, Scope, Send

from service.api.problems import Problem
from service.cycle import WHOLE_BYTES, cycle_of, whole
from tests.garbage import left_behind
from tests.service.near import connection

REQUEST = b"POST /some HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


async def by_messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it was told, as ASGI has it."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": body})


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """The same as a whole."""
    cycle, answer = cycle_of(receive), whole(send)
    assert cycle is not None
    assert answer is not None
    body = cycle.take()
    assert body is not None
    assert answer(200, HEADERS, body)
    assert not answer(200, HEADERS, body)


async def asked(far: socket.socket, data: bytes = REQUEST) -> bytes:
    """What comes back, of an answer that is sent at once."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(far, data)
    return await loop.sock_recv(far, 1 << 16)


@pytest.mark.parametrize("request_", [REQUEST, REQUEST.replace(b"1.1", b"1.0"), REQUEST + REQUEST])
async def test_nobody_can_tell(request_: bytes) -> None:
    """Both ways have the same bytes, keep or close the connection alike, and go on with what else was asked."""
    said = []
    for app in (by_messages, at_once):
        protocol, far = await connection(app=app)
        with far:
            told = b""
            wanted = request_.count(b"hello")
            while told.count(b"hello") < wanted:
                told += await asked(far, b"" if told else request_)
            said.append((told, protocol.transport.is_closing()))
            protocol.transport.abort()
    assert said[0] == said[1]


class Closed:
    """An application that lets nobody in, by their headers."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken, self.looked, self.called = broken, 0, 0

    def refusal(self, scope: Scope) -> Problem:
        """See api.hot.Application."""
        self.looked += 1
        assert (b"content-length", b"5") in scope["headers"]
        if self.broken:
            raise ZeroDivisionError
        return Problem(503, [(b"content-length", b"2")], b"no")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        self.called += 1
        await by_messages(scope, receive, send)


async def test_who_is_not_let_in_is_answered_before_a_task_is_made() -> None:
    """Before the body has come, which is passed over; and the connection goes on."""
    app = Closed()
    protocol, far = await connection(app=app)
    with far:
        head, body = REQUEST[:-5], REQUEST[-5:]
        for _ in range(2):
            assert (await asked(far, head)).endswith(b"no")
            await asyncio.get_running_loop().sock_sendall(far, body)
        assert not protocol.transport.is_closing()
        assert (app.looked, app.called) == (2, 0)
        protocol.transport.abort()


async def test_a_bug_at_the_door_is_the_tasks_to_tell() -> None:
    """It is not taken for bytes that nobody can read."""
    app = Closed(broken=True)
    protocol, far = await connection(app=app)
    with far:
        assert (await asked(far)).endswith(b"hello")
        assert (app.looked, app.called) == (1, 1)
        protocol.transport.abort()


async def test_a_header_has_one_line() -> None:
    """What would end it, and begin another, is a bug that nobody outside sees more of."""

    async def careless(scope: Scope, receive: Receive, send: Send) -> None:
        answer = whole(send)
        assert answer is not None
        answer(200, [(b"x", b"a\r\ninjected: yes"), *HEADERS], b"hello")

    protocol, far = await connection(app=careless)
    with far:
        told = await asked(far)
        assert told.startswith(b"HTTP/1.1 500 ")
        assert b"injected" not in told
        protocol.transport.abort()


async def test_what_has_not_come_is_not_there() -> None:
    """Half a body is not taken; and a large answer goes at its caller's pace."""
    seen: list[object] = []
    looked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cycle, answer = cycle_of(receive), whole(send)
        assert cycle is not None
        assert answer is not None
        seen.extend((cycle.take(), answer(200, HEADERS, bytes(WHOLE_BYTES + 1))))
        looked.set()
        await by_messages(scope, receive, send)

    protocol, far = await connection(app=app)
    with far:
        await asyncio.get_running_loop().sock_sendall(far, REQUEST[:-3])
        await looked.wait()
        assert (await asked(far, REQUEST[-3:])).startswith(b"HTTP/1.1 200 ")
        protocol.transport.abort()
    assert seen == [None, False]


async def test_whose_messages_are_looked_at_is_not_passed_by() -> None:
    """Whoever stands between sees all of it."""

    async def receive() -> dict[str, object]:
        return {}

    async def send(message: object) -> None:
        """Somebody's."""

    assert (cycle_of(receive), whole(send)) == (None, None)


async def test_nothing_waits_for_the_garbage_collector() -> None:
    """A request's cycle is gone with its answer, or when the next has come."""
    protocol, far = await connection(app=at_once)
    with far:
        await asked(far)
        with left_behind() as left:
            for _ in range(3):
                await asked(far)
        protocol.transport.abort()
    assert left == []
