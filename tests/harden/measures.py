"""Measurements that need minutes: each starts services of its own on loopback, ends by itself, and says what it saw.

The service has one half of the cores and the load, which comes from this process, the other, so that neither takes the
other's time. With a single core they share it, and figures are lower bounds.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import orjson

from tests.access.keys import make
from tests.api.live import ROOT, Server
from tests.api.stores import corrupt, publish
from tests.api.wire import ROW, TINY_ROWS
from tests.harden.load import ASK, LIVE, Caller, closed_loop, memory, open_loop, p99, request

# How long loads last, against what is said in SECURITY.md; 1 is the whole of it.
SHARE = float(os.environ.get("HARDEN_SHARE", "1"))
_ROUNDS = 5  # of loads that are compared with one another
_PATIENCE = 120.0
_LONGEST = 1800.0  # seconds; a service that hangs must not hang whoever looks
TOOLS = Path(__file__).parent / "tools.txt"


class Figure(NamedTuple):
    """What was seen, and whether that is enough."""

    good: bool
    said: str


def served(measure: Callable[[Server], Awaitable[Figure]], **settings: object) -> Figure:
    """A measurement of a service that is started for it, and must end well."""
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    try:
        os.sched_setaffinity(0, cores[:half])  # is inherited
        # An answer that was kept costs too little to overload anything.
        server = Server(access_log="off", **{"threads": half, "answer_cache_bytes": 0, **settings})
        try:
            os.sched_setaffinity(0, cores[half:] or cores)
            return asyncio.run(asyncio.wait_for(measure(server), _LONGEST))
        finally:
            server.stop()
    finally:
        os.sched_setaffinity(0, cores)


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
    """Requests that come at 2 and 10 times the peak, whether or not they are answered; in turns with the peak itself.

    Machines are not as fast in every minute: each round is compared with the peaks before and after it.
    """

    async def measure(server: Server) -> Figure:
        data = request("/v1/models/digits/sample", inputs=[[0.0] * 64] * 64, samples=400, seed=1)
        await closed_loop(server, 16, 2, data)
        peaks = [(await closed_loop(server, 16, 10 * SHARE, data))[1]]
        took: dict[int, list[tuple[int, float]]] = {2: [], 10: []}
        goodputs: dict[int, list[float]] = {2: [], 10: []}
        for _ in range(_ROUNDS):
            answered = {}
            for times in took:
                found, seconds = await open_loop(server, times * peaks[-1], 20 * SHARE, data)
                took[times] += found
                answered[times] = Counter(status for status, _ in found)[200] / seconds
            peaks.append((await closed_loop(server, 16, 10 * SHARE, data))[1])
            for times, rate in answered.items():
                goodputs[times].append(rate / statistics.mean(peaks[-2:]))
        said = [f"peak {statistics.median(peaks):.0f}/s"]
        good = True
        for times, found in took.items():
            statuses, goodput = Counter(status for status, _ in found), statistics.median(goodputs[times])
            admitted, refused = (p99(found, *wanted) for wanted in ((200,), (429, 503)))
            good = good and goodput >= 0.9 and set(statuses) <= {200, 429, 503, 504} and admitted < 4 and refused < 0.05
            rounds = ", ".join(f"{each:.0%}" for each in goodputs[times])
            said.append(
                f"×{times}: goodput {goodput:.0%} ({rounds}), {dict(statuses)}, p99 {admitted:.1f} s of answers, "
                f"{refused * 1e3:.0f} ms of refusals"
            )
        return Figure(good, "; ".join(said))

    return served(measure, max_queue=64, max_queue_seconds=2, deadline_ms=4000)


def flood() -> Figure:
    """A key without a rate that asks as much as it can, beside one that asks now and then."""

    async def measure(server: Server, keys: dict[str, str]) -> Figure:
        path, large = "/v1/models/digits/sample", {"inputs": [[0.0] * 64] * 64, "samples": 400, "seed": 1}
        seconds, other = 30 * SHARE, request(path, keys["other"], **{**large, "inputs": [[0.0] * 64]})
        flooding = asyncio.create_task(closed_loop(server, 100, seconds, request(path, keys["flooder"], **large)))
        caller, found = Caller(server), list[tuple[int, float]]()
        while not flooding.done():
            status, _, spent = await caller.ask(other)
            found.append((status, spent))
            await asyncio.sleep(min(1, seconds / 30))
        caller.close()
        statuses, _ = await flooding
        served = Counter(status for status, _ in found)
        good = set(served) == {200} and statuses[429] + statuses[503] > 0
        slowest = max(spent for _, spent in found)
        return Figure(good, f"flooder {dict(statuses)}; other {dict(served)}, the slowest after {slowest * 1e3:.0f} ms")

    with tempfile.TemporaryDirectory() as folder:
        keys = make(file := Path(folder) / "keys.jsonl", flooder="infer", other="infer")
        return served(lambda server: measure(server, keys), keys_file=file, max_queue=32)


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
    """A million requests after the first hundred thousand, and the slope of the memory over them."""

    async def measure(server: Server) -> Figure:
        total, found = int(1_000_000 * SHARE), Counter[int]()

        async def ask(times: int) -> None:
            left = iter(range(times))

            async def call() -> None:
                caller = Caller(server)
                for number in left:
                    found[(await caller.ask(LIVE if number % 10 else ASK))[0]] += 1
                caller.close()

            await asyncio.gather(*(call() for _ in range(16)))

        await ask(max(20_000, total // 10))
        counts, sizes = [found.total()], [memory(server) / 1e6]
        for _ in range(20):
            await ask(total // 20)
            counts.append(found.total())
            sizes.append(memory(server) / 1e6)
        slope = statistics.linear_regression(counts, sizes).slope * 1e6
        said = f"{found.total()} requests {dict(found)}; {slope:+.1f} MB in a million"
        return Figure(set(found) == {200} and slope < 5, f"{said}, from {sizes[0]:.0f} MB to {sizes[-1]:.0f}")

    return served(measure, workers=2, threads=1)


def schema() -> Figure:
    """Every phase of schemathesis over the whole document; the fuzzer on the readers for ten minutes."""
    tools = Path(sys.prefix) / "harden"
    if not any(tools.glob("lib/python3*/site-packages/shared.pth")):  # comes last
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(tools)], check=True)
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
