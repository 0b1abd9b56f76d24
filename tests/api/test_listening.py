"""Workers share connections evenly, and do without one that is stuck. Linux alone: it looks into /proc."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.live import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
CONNECTIONS = 40
BURSTS = 30
_REQUEST = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def workers_of(server: Server, count: int = 2) -> list[int]:
    """The processes of all workers that were ever started, once there are so many of them."""
    for _ in range(20_000):
        found = [int(pid) for pid in re.findall(r"Started server process \[(\d+)]", server.output)]
        if len(found) == count and server.output.count("Application startup complete") == count:
            return found
        with suppress(httpx.TransportError):  # the worker that held the connection was killed
            server.client.get("/health/live")
    raise AssertionError(f"not all workers started:\n{server.output}")


def opened(server: Server, count: int, held: ExitStack) -> list[socket.socket]:
    """Connections, opened at once and answered once."""
    address = urlsplit(server.url)
    connections = [held.enter_context(socket.socket()) for _ in range(count)]
    for connection in connections:
        connection.settimeout(60)
        connection.connect((address.hostname, address.port))
    for connection in connections:
        connection.sendall(_REQUEST)
    for connection in connections:
        assert b"200 OK" in connection.recv(65536)
    return connections


def owners(connections: list[socket.socket], workers: list[int]) -> Counter[int]:
    """How many of these connections each worker holds."""
    ports = {connection.getsockname()[1] for connection in connections}
    inodes = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split()) and int(fields[2].rpartition(":")[2], 16) in ports
    }
    links = {pid: {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()} for pid in workers}
    return Counter({pid: sum(f"socket:[{inode}]" in links[pid] for inode in inodes) for pid in workers})


def shared_evenly(server: Server, workers: list[int]) -> bool:
    """Whether of some bursts of connections one goes to both workers, as many to each.

    Not every one does: where the system lets a worker wait for its turn, its neighbour takes what comes, as it should.
    """
    for _ in range(BURSTS):
        with ExitStack() as held:
            shares = owners(opened(server, CONNECTIONS, held), workers)
        assert sum(shares.values()) == CONNECTIONS
        if min(shares.values()) >= 0.4 * CONNECTIONS:
            return True
    return False


def test_connections_are_shared_evenly(start_server: Callable[..., Server]) -> None:
    """A burst of connections goes to both workers; those that closed don't count."""
    server = start_server(workers=2, threads=1)
    workers = workers_of(server)
    assert all(shared_evenly(server, workers) for _ in range(3))


def test_a_worker_that_is_stuck_is_done_without(start_server: Callable[..., Server]) -> None:
    """While one worker stands still, connections are answered by the other, however far ahead it is."""
    server = start_server(workers=2, threads=1)
    stuck, other = workers_of(server)
    os.kill(stuck, signal.SIGSTOP)
    try:
        with ExitStack() as held:
            shares = owners(opened(server, CONNECTIONS, held), [stuck, other])
    finally:
        os.kill(stuck, signal.SIGCONT)
    assert shares == {stuck: 0, other: CONNECTIONS}


def test_a_worker_that_died_is_replaced(start_server: Callable[..., Server]) -> None:
    """Its successor takes its place in the tally, and its share of connections."""
    server = start_server(workers=2, threads=1)
    killed, other = workers_of(server)
    os.kill(killed, signal.SIGKILL)
    *_, successor = workers_of(server, 3)
    assert shared_evenly(server, [other, successor])
