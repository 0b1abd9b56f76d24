"""Connections are accepted as they come: all who wait, at once."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack

import pytest

from service.listening import Listener, Tally, new_tally

CALLERS = 100


class Seen(Tally):
    """A tally that keeps in which turn of the event loop connections came or went."""

    def __init__(self, file: int) -> None:
        super().__init__(file)
        self.turn, self.turns, self.over = 0, list[int](), asyncio.Event()

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


async def test_all_who_wait_are_let_in_in_one_turn() -> None:
    """However long one takes, they don't wait for as many turns as they are."""
    memory = new_tally(1)
    if memory is None:
        pytest.skip("this system has no memory for a tally")
    with ExitStack() as stack:
        stack.callback(os.close, memory)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CALLERS))
        for _ in range(CALLERS):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        tally = Seen(memory)
        listener = Listener(asyncio.get_running_loop(), listening, Brief, tally)
        while not tally.turns:
            tally.turn += 1
            await asyncio.sleep(0)
        listener.close()
        await tally.over.wait()
    assert tally.turns[:CALLERS] == tally.turns[:1] * CALLERS
