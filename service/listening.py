"""Connections are accepted as they come, and evenly by worker processes that share a listening socket.

An event loop accepts one connection a turn (libuv does): while a worker is busy with those that it has, others would
wait for seconds, health probes among them. Here all that have come are let in.

The worker that wakes up first would accept a whole burst of connections before the next has woken: of 32, one of two
workers was seen to get 20 to 32, and as connections stay open, the other cores idle. So a worker that is ahead leaves
new connections to the others for a moment. Never for longer: while another is stuck or gone, connections wait for a
millisecond or two, and nothing else depends on its state.

Where there is TLS, a few handshakes are under way at a time; whoever takes no part in one makes room for others. Knows
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from typing import Any, NamedTuple

from service.connections import MOST_STARTING

logger = logging.getLogger(__name__)

# Connections a worker may be ahead of another before it leaves new ones alone, and for how long it does.
AHEAD = 2
PAUSE_SECONDS = 0.001
# How long to wait where the system has no room for another connection.
_NO_ROOM_SECONDS = 1.0
_BACKLOG = 2048
# A handshake takes no longer; while as many are under way as may be, one that has had this long ends for the next one.
_HANDSHAKE_SECONDS, _CROWDED_SECONDS = 10.0, 0.25
# How long to wait for a handshake to end where none has had its time.
_HANDSHAKES_PAUSE_SECONDS = 0.01
_NOBODY = 2**32 - 1  # stands for a worker that does not listen


def new_tally(workers: int) -> int | None:
    """Memory for a tally of so many workers, made before they are forked: a file descriptor that they inherit.

    None where the system has no such thing; then whoever wakes up first takes what comes.
    """
    if not hasattr(os, "memfd_create"):
        return None
    memory = os.memfd_create("penumbra-tally")
    os.write(memory, _NOBODY.to_bytes(4, sys.byteorder) * 2 * workers)
    return memory


class Tally:
    """How many connections each worker has, in memory that all of them see; each writes in its own place."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._counts = memoryview(mmap.mmap(file, 0)).cast("I")
        # There are twice as many places as workers: successors begin before those whom they replace have ended.
        self._place = next((place for place in range(len(self._counts)) if self._claim(place)), None)

    def _claim(self, place: int) -> bool:
        """Takes a place that no living worker has: the lock ends with its process."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 4 * place)
        except OSError:
            return False
        self._counts[place] = 0
        return True

    def add(self, connections: int) -> None:
        """Some more, or less, connections of this worker."""
        if self._place is not None:
            self._counts[self._place] += connections

    def leave(self) -> None:
        """From now on it takes no more connections."""
        if self._place is not None:
            self._counts[self._place] = _NOBODY
            self._place = None

    @property
    def ahead(self) -> int:
        """How many connections more this worker has than the one that has the fewest."""
        return 0 if self._place is None else self._counts[self._place] - min(self._counts)


class _Start(NamedTuple):
    """A connection that was accepted, and when."""

    connection: socket.socket
    since: float


class Listener:
    """Accepts connections from a shared socket: at once while this worker is not ahead, else after a moment.

    Stands in for the server that an event loop makes, as far as uvicorn asks of one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        tally: Tally,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._loop, self._listening, self._factory, self._tally = loop, listening, factory, tally
        self._starting: dict[asyncio.Task[Any], _Start] = {}  # the oldest first
        self._closed = False
        listening.listen(_BACKLOG)
        listening.settimeout(0)
        loop.add_reader(listening, self._accept)

    def _accept(self, patience: int = 0) -> None:
        """Takes connections until this worker is too far ahead, or `patience` of them whatever the tally says."""
        while not self._closed:
            if patience <= 0 and self._tally.ahead > AHEAD:
                self._pause(PAUSE_SECONDS)
                return
            if self._tls is not None and len(self._starting) >= MOST_STARTING and not self._end_handshakes():
                self._pause(_HANDSHAKES_PAUSE_SECONDS)
                return
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # another worker was faster
            except OSError as error:
                logger.error("no connection can be accepted: %s", error)  # noqa: TRY400 - nothing of ours is in the stack
                self._pause(_NO_ROOM_SECONDS)
                return
            connection.settimeout(0)
            patience -= 1
            self._tally.add(1)
            task = self._loop.create_task(self._start(connection))
            self._starting[task] = _Start(connection, self._loop.time())
            task.add_done_callback(lambda task: self._starting.pop(task, None))

    def _end_handshakes(self) -> bool:
        """Ends those that have had their time; whether there were any."""
        before = self._loop.time() - _CROWDED_SECONDS
        late = list(takewhile(lambda each: each[1].since <= before, self._starting.items()))
        for task, start in late:
            del self._starting[task]
            with suppress(OSError):  # it has ended by itself
                start.connection.shutdown(socket.SHUT_RDWR)
        return bool(late)

    async def _start(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._counted,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if self._tls else None,
            )
        except OSError:  # gone already, or no TLS
            self._tally.add(-1)
            connection.close()

    def _counted(self) -> asyncio.Protocol:
        """A protocol that takes itself out of the tally."""
        protocol = self._factory()
        lost = protocol.connection_lost

        def connection_lost(error: Exception | None) -> None:
            self._tally.add(-1)
            lost(error)

        protocol.connection_lost = connection_lost  # type: ignore[assignment, method-assign]
        return protocol

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept)
            self._accept(patience=1 + AHEAD)

    def close(self) -> None:
        """Accepts nothing any more; connections go on."""
        if not self._closed:
            self._closed = True
            self._tally.leave()
            self._loop.remove_reader(self._listening)
            self._listening.close()

    async def wait_closed(self) -> None:
        """Returns when connections that were accepted have their protocols; from then on they are those' concern."""
        if self._starting:
            await asyncio.wait(self._starting)
