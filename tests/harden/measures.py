"""Measurements that need minutes: each starts services of its own on loopback, ends by itself, and says what it saw.

Load comes from this process, on the same cores as the service: figures are lower bounds.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import orjson

from tests.api.live import ROOT, Server
from tests.api.stores import corrupt, publish
from tests.api.wire import ROW, TINY_ROWS

# How long loads last, against what is said in SECURITY.md; 1 is the whole of it.
SHARE = float(os.environ.get("HARDEN_SHARE", "1"))
_PATIENCE = 120.0
TOOLS = Path(__file__).parent / "tools.txt"


class Figure(NamedTuple):
    """What was seen, and whether that is enough."""

    good: bool
    said: str


def request(path: str, **fields: object) -> bytes:
    """A request as bytes."""
    body = orjson.dumps(fields)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
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
    """Callers who ask as soon as they are answered: statuses, and answers of 200 per second."""
    found: Counter[int] = Counter()
    end = time.perf_counter() + seconds

    async def call() -> None:
        caller = Caller(server)
        while time.perf_counter() < end:
            found[(await caller.ask(data))[0]] += 1
        caller.close()

    await asyncio.gather(*(call() for _ in range(callers)))
    return found, found[200] / seconds


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


def served(measure: Callable[[Server], Awaitable[Figure]], **settings: object) -> Figure:
    """A measurement of a service that is started for it, and must end well."""
    server = Server(access_log="off", **settings)
    try:
        return asyncio.run(measure(server))
    finally:
        server.stop()


def large_bodies() -> Figure:
    """200 MB, announced and in chunks, a few times over."""

    async def measure(server: Server) -> Figure:
        # What the largest body that is taken leaves with the allocator is not what this is about.
        largest = orjson.dumps({"inputs": [ROW]}) + b" " * (4 * 2**20 - 1000)
        for _ in range(3):
            server.client.post(
                "/v1/models/diabetes/predict", content=largest, headers={"Content-Type": "application/json"}
            )
        before, statuses = memory(server), set()
        for _ in range(5):
            for content in (b" " * 200_000_000, (b" " * 2**20 for _ in range(200))):
                with suppress(httpx.TransportError):
                    sent = server.client.post(
                        "/v1/models/diabetes/sample", content=content, headers={"Content-Type": "application/json"}
                    )
                    statuses.add(sent.status_code)
        grown = memory(server) - before
        return Figure(statuses <= {413} and grown < 5e6, f"statuses {sorted(statuses)}, memory {grown / 1e6:+.1f} MB")

    return served(measure)


def slow_connections() -> Figure:
    """200 connections that never finish a request, beside one that asks as ever."""

    async def prober(server: Server, count: int) -> list[float]:
        caller = Caller(server)
        took = sorted([(await caller.ask(ASK))[2] for _ in range(count)])
        caller.close()
        return took

    async def measure(server: Server) -> Figure:
        url = httpx.URL(server.url)
        alone = await prober(server, 2000)
        slow = [await asyncio.open_connection(url.host, url.port) for _ in range(200)]
        for number, (_, writer) in enumerate(slow):
            writer.write((b"", b"GET / HTTP/1.1\r\nX: ", ASK[:-1])[number % 3])
        beside = await prober(server, 2000)
        began = time.perf_counter()
        await asyncio.gather(*(asyncio.wait_for(reader.read(), _PATIENCE) for reader, _ in slow))
        closed = time.perf_counter() - began
        for _, writer in slow:
            writer.close()
        ratio = beside[1980] / alone[1980]
        return Figure(ratio < 3, f"all closed, the last after {closed:.0f} s; p99 of others × {ratio:.2f}")

    return served(measure, receive_seconds=5)


def overload() -> Figure:
    """Requests that come at 2 and 10 times the peak, whether or not they are answered."""

    async def measure(server: Server) -> Figure:
        data = request("/v1/models/digits/sample", inputs=[[0.0] * 64] * 64, samples=400, seed=1)
        _, peak = await closed_loop(server, 16, 10 * SHARE, data)
        said = [f"peak {peak:.0f}/s"]
        good = True
        for times in (2, 10):
            took, seconds = await open_loop(server, times * peak, 60 * SHARE, data)
            statuses = Counter(status for status, _ in took)
            goodput = statuses[200] / seconds / peak
            refused = sorted(spent for status, spent in took if status == 503)
            late = refused[len(refused) * 99 // 100] * 1e3 if refused else 0.0
            good = good and goodput >= 0.9 and set(statuses) <= {200, 503, 504}
            said.append(f"×{times}: goodput {goodput:.0%}, {dict(statuses)}, p99 of refusals {late:.0f} ms")
        return Figure(good, "; ".join(said))

    return served(measure, max_queue=64, max_queue_seconds=2, deadline_ms=4000)


def reloads() -> Figure:
    """A model loaded 200 times while it is asked, every tenth time with a version that is corrupt."""

    async def measure(server: Server) -> Figure:
        stop, found, named = asyncio.Event(), Counter[int](), Counter[str]()
        data = request("/v1/models/moving/predict", inputs=TINY_ROWS)

        async def call() -> None:
            caller = Caller(server)
            while not stop.is_set():
                status, body, _ = await caller.ask(data)
                found[status] += 1
                named[orjson.loads(body)["model"]["version"] if status == 200 else "none"] += 1
            caller.close()

        callers = [asyncio.create_task(call()) for _ in range(4)]
        operator, orders = Caller(server), Counter[int]()
        for number in range(2, 202):
            folder = await asyncio.to_thread(publish, store, "moving", str(number))
            if number % 10 == 0:
                corrupt(folder)
            orders[(await operator.ask(request("/v2/repository/models/moving/load")))[0]] += 1
            if number % 10 == 0:
                shutil.rmtree(folder)
        stop.set()
        await asyncio.gather(*callers)
        good = set(found) == {200} and orders == {200: 180, 503: 20}
        return Figure(
            good,
            f"answers {dict(found)}; {len(named)} versions named; orders {dict(orders)}",
        )

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        publish(store, "moving", "1")
        return served(measure, store=store, workers=2, threads=1)


def million() -> Figure:
    """A million requests, and the memory after each tenth of them."""

    async def measure(server: Server) -> Figure:
        total, sizes, found = int(1_000_000 * SHARE), [], Counter[int]()
        for _ in range(10):
            left = iter(range(total // 10))

            async def call(left: Iterable[int]) -> None:
                caller = Caller(server)
                for number in left:
                    found[(await caller.ask(LIVE if number % 10 else ASK))[0]] += 1
                caller.close()

            await asyncio.gather(*(call(left) for _ in range(16)))
            sizes.append(memory(server) / 1e6)
        slope = (sizes[-1] - sizes[2]) / (0.7 * found.total()) * 1e6
        return Figure(
            set(found) == {200} and slope < 5, f"{found.total()} requests {dict(found)}; {slope:+.1f} MB in a million"
        )

    return served(measure, workers=2, threads=1)


def schema() -> Figure:
    """Every phase of schemathesis over the whole document; the fuzzer on the readers for ten minutes."""
    tools = Path(sys.prefix) / "harden"
    if not tools.exists():
        subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
        pip = [str(tools / "bin" / "pip"), "--disable-pip-version-check", "--quiet", "install", "-r", str(TOOLS)]
        subprocess.run(pip, check=True)
        (next(tools.glob("lib/python3*/site-packages")) / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    server = Server(access_log="off")
    command = [str(tools / "bin" / "st"), "run", f"{server.url}/openapi.json", "--checks", checks, "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(round(300 * SHARE))]
    tried = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    server.stop()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = [str(tools / "bin" / "python"), "tests/harden/fuzz.py", str(round(600 * SHARE)), f"{folder}/corpus"]
        fuzzed = subprocess.run(fuzz, capture_output=True, text=True, check=False, cwd=ROOT)
    units = re.search(r"number_of_executed_units: (\d+)", fuzzed.stderr)
    cases = re.search(r"\d+ generated, .*", tried.stdout)
    good = tried.returncode == 0 and fuzzed.returncode == 0
    said = f"schemathesis: {cases[0] if cases else 'nothing'}; atheris: {units[1] if units else 'no'} inputs"
    return Figure(good, f"{said}, exit codes {tried.returncode} and {fuzzed.returncode}")
