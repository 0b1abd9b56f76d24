"""Whoever asks, in measurements: callers on connections of their own, as fast as they are answered or as often as told.

Knows nothing of what is measured.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import httpx
import orjson

from tests.api.live import Server
from tests.api.wire import ROW


def request(path: str, key: str = "", **fields: object) -> bytes:
    """A request as bytes, with a key if there is one."""
    body = orjson.dumps(fields)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


ASK = request("/v1/models/diabetes/sample", inputs=[ROW], samples=100, seed=7)
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Caller:
    """One connection, on which one request follows the other."""

    def __init__(self, server: Server) -> None:
        url = httpx.URL(server.url)
        self._address = url.host, url.port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, data: bytes) -> tuple[int, bytes, float]:
        """Status, body, and the seconds that it took; status 0 where the connection broke."""
        began = time.perf_counter()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, b"", time.perf_counter() - began
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), body, time.perf_counter() - began

    def close(self) -> None:
        """Hangs up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def memory(server: Server) -> int:
    """Resident bytes of a service and its workers."""
    first = server._process.pid
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (first, *children)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


async def closed_loop(server: Server, callers: int, seconds: float, data: bytes = ASK) -> tuple[Counter[int], float]:
    """Callers who ask as soon as they are answered: statuses, and answers of 200 per second, the last ones included."""
    found: Counter[int] = Counter()
    began = time.perf_counter()
    end = began + seconds

    async def call() -> None:
        caller = Caller(server)
        while time.perf_counter() < end:
            found[(await caller.ask(data))[0]] += 1
        caller.close()

    await asyncio.gather(*(call() for _ in range(callers)))
    return found, found[200] / (time.perf_counter() - began)


async def open_loop(
    server: Server, rate: float, seconds: float, data: bytes, at_once: int = 2000
) -> tuple[list[tuple[int, float]], float]:
    """Requests that come so often, whether or not they are answered: status and seconds of each; and how long it took.

    No more than `at_once` wait at a time: as many as a machine has connections for.
    """
    took: list[tuple[int, float]] = []
    idle: list[Caller] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one() -> None:
        caller = idle.pop() if idle else Caller(server)
        status, _, spent = await caller.ask(data)
        took.append((status, spent))
        idle.append(caller)

    began = due = time.perf_counter()
    while due < began + seconds:
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if len(tasks) < at_once:
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    spent = time.perf_counter() - began
    for caller in idle:
        caller.close()
    return took, spent


def p99(took: Iterable[tuple[int, float]], *statuses: int) -> float:
    """Seconds that answers of these statuses took, but for one in a hundred."""
    spent = sorted(seconds for status, seconds in took if status in statuses)
    return spent[len(spent) * 99 // 100] if spent else 0.0
