"""Open-loop load: requests at random moments, whether or not those before were answered.

A loop that never sleeps, for timers of event loops are too coarse for thousands of requests a second: it needs a core
of its own. A request's time begins when it was due: what waits for a connection counts (no coordinated omission).
"""

from __future__ import annotations

import random
import re
import select
import socket
import time
from collections import deque

from benchmarks.capacity.simulation import Seen
from benchmarks.jobs import Spelling
from benchmarks.load import Refused, next_seeds

CONNECTIONS = 64
PATIENCE = 10.0  # seconds after the last request was due
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def arrive(port: int, spelling: Spelling, rate: float, seconds: float, seed: int) -> Seen:
    """Poisson arrivals, `rate` a second. Raises Refused where an answer is not 200, or one is missing."""
    chance, first, seen = random.Random(seed), next_seeds(), Seen()
    poll, idle = select.epoll(), deque[socket.socket]()
    open_connections: dict[int, socket.socket] = {}
    asked: dict[int, float] = {}
    arrived: dict[int, bytes] = {}
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection, select.EPOLLIN)
        open_connections[connection.fileno()] = connection
        arrived[connection.fileno()] = b""
        idle.append(connection)
    began = time.perf_counter()
    due, number = began + chance.expovariate(rate), 0
    last = began + seconds
    try:
        while due < last or asked:
            now = time.perf_counter()
            if now >= due and due < last and idle:
                connection = idle.popleft()
                connection.sendall(_request(spelling, number, first + number))
                asked[connection.fileno()] = due
                number += 1
                due += chance.expovariate(rate)
            for file, _ in poll.poll(0):
                arrived[file] += open_connections[file].recv(65536)
                if not _whole(arrived[file]):
                    continue
                arrived[file] = b""
                seen.latencies.append(time.perf_counter() - asked.pop(file))
                idle.append(open_connections[file])
            if now > last + PATIENCE:
                raise Refused(f"{len(asked)} of {number} requests were not answered")
    finally:
        poll.close()
        for connection in open_connections.values():
            connection.close()
    seen.rate = len(seen.latencies) / (time.perf_counter() - began)
    return seen


def _request(spelling: Spelling, number: int, seed: int) -> bytes:
    body = spelling.body(number, seed)
    lines = (f"POST {spelling.path} HTTP/1.1", "Host: 127.0.0.1", *spelling.headers, f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def _whole(answer: bytes) -> bool:
    """Whether all of an answer has come. Raises Refused where it is no 200."""
    head, ended, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Refused(f"answered {answer[:200].decode(errors='replace') or 'by hanging up'}")
    length = _LENGTH.search(head)
    return bool(ended) and length is not None and len(body) >= int(length[1])
