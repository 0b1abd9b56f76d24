"""Connections are accepted as they come: all who wait, at once, except by a worker that is ahead of another."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from service.listening import AHEAD, Listener, Tally, new_tally
from tests.service import certificates

CALLERS = 100
NOBODY = 2**32 - 1


class Seen(Tally):
    """A tally that keeps in which turn of the event loop connections came or went."""

    def __init__(self, file: int) -> None:
        super().__init__(file)
        self.turn, self.turns, self.over = 0, list[int](), asyncio.Event()  # over: everybody came and went

    def add(self, connections: int) -> None:
        """See Tally."""
        super().add(connections)
        self.turns.append(self.turn)
        if len(self.turns) == 2 * CALLERS:
            self.over.set()


class Brief(asyncio.Protocol):
    """Hangs up at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        transport.close()


def counts(memory: int) -> list[int]:
    """What the tally says of each place."""
    return list(memoryview(os.pread(memory, 4096, 0)).cast("I"))


def beside(memory: int, connections: int) -> None:
    """Another worker, in the second place, with so many connections."""
    os.pwrite(memory, connections.to_bytes(4, sys.byteorder), 4)


def hold(memory: int, told: Connection) -> None:
    """A worker with seven connections, until it is killed."""
    tally = Tally(memory)
    tally.add(7)
    told.send("held")
    signal.pause()


@pytest.fixture
def memory() -> Iterator[int]:
    """The tally of two workers."""
    memory = new_tally(2)
    if memory is None:
        pytest.skip("this system has no memory for a tally")
    yield memory
    os.close(memory)


async def let_in(tally: Seen) -> None:
    """All callers of a listening socket are let in by a worker with this tally."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CALLERS))
        for _ in range(CALLERS):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        listener = Listener(asyncio.get_running_loop(), listening, Brief, tally)
        while not tally.turns:
            tally.turn += 1
            await asyncio.sleep(0)
        tally.turn += 1
        await tally.over.wait()
        listener.close()


async def test_all_who_wait_are_let_in_in_one_turn(memory: int) -> None:
    """However long one takes, they don't wait for as many turns as they are."""
    tally = Seen(memory)
    await let_in(tally)
    assert tally.turns[:CALLERS] == tally.turns[:1] * CALLERS


async def test_a_worker_that_is_ahead_leaves_others_the_rest_for_a_moment(memory: int) -> None:
    """It takes no more at once than make it as far ahead as it may be; the rest too, as nobody else takes them."""
    tally = Seen(memory)
    beside(memory, 0)
    await let_in(tally)
    at_once = tally.turns.count(tally.turns[0])
    assert at_once == AHEAD + 1
    assert len(tally.turns) == 2 * CALLERS


async def test_a_worker_that_is_behind_takes_all(memory: int) -> None:
    """Nobody is waited for who has more."""
    tally = Seen(memory)
    beside(memory, CALLERS)
    await let_in(tally)
    assert tally.turns[:CALLERS] == tally.turns[:1] * CALLERS


async def test_who_takes_no_part_in_a_handshake_makes_room(
    memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many may be under way as there are files for; silence keeps nobody out who speaks TLS."""
    monkeypatch.setattr("service.listening.MOST_STARTING", 3)
    monkeypatch.setattr("service.listening._CROWDED_SECONDS", 0.0)
    monkeypatch.setattr("service.listening._HANDSHAKE_SECONDS", 3600.0)
    certificate, key = certificates.make(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CALLERS))
        address = listening.getsockname()
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(10)]
        listener = Listener(loop, listening, Brief, Tally(memory), context)
        trusting = ssl.create_default_context(cafile=certificate)
        _, writer = await asyncio.open_connection(*address, ssl=trusting, server_hostname="localhost")
        writer.close()
        for connection in silent[:7]:
            connection.settimeout(0)
            assert await loop.sock_recv(connection, 1) == b""
        listener.close()
        for connection in silent:
            connection.close()
        await listener.wait_closed()


def test_the_place_of_a_worker_that_died_is_taken_by_the_next(memory: int) -> None:
    """With none of its connections; while it lives, the next has a place of its own."""
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe()
    worker = processes.Process(target=hold, args=(memory, theirs), daemon=True)
    worker.start()
    assert ours.recv() == "held"
    assert counts(memory)[:2] == [7, NOBODY]
    tally = Tally(memory)
    tally.add(3)
    assert (counts(memory)[:2], tally.ahead) == ([7, 3], 0)
    worker.kill()
    worker.join()
    successor = Tally(memory)
    successor.add(1)
    assert counts(memory)[:2] == [1, 3]
