"""Load from wrk: one burst of a job's requests at one concurrency, and what wrk saw.

wrk runs with one thread: it shares the machine's cores with the server that it measures. Its script does as little as
possible: each request is a prepared text, a seed that counts up, and a tail. For slow jobs it also notes when the last
answer came, and the rate is answers by that time: in a short burst the requests that were cut off at the end would
count against servers that answer many at once. Knows nothing of which server is asked.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count

from benchmarks.jobs import Spelling

FIRST_SEED = 100_000_000_000  # all seeds have as many digits, so that all bodies of a job are equally long
_SEEDS_PER_BURST = 10_000_000
_bursts = count()
PATIENCE = 60.0  # seconds for one answer
WAKE_WITHIN = 10.0  # seconds

_NOT_PLAIN = re.compile(r"[^ !#-\[\]-~]")
_SCRIPT = r"""
local heads = {HEADS}
local tail = TAIL
local turn, seed = 0, SEED
function request()
  turn = turn % #heads + 1
  if not tail then return heads[turn] end
  seed = seed + 1
  return heads[turn] .. seed .. tail
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('\n@{"answers":%d,"microseconds":%d,"p50":%f,"p99":%f,"failures":%d,"last":%f}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout + errors.status, last_answer()))
end
"""
_NO_CLOCK = "function last_answer() return 0 end\n"
_CLOCK = r"""
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long n; } moment; int clock_gettime(int, moment *);")
local moment, only = ffi.new("moment"), nil
local function now() ffi.C.clock_gettime(1, moment); return tonumber(moment.s) + tonumber(moment.n) / 1e9 end
function setup(thread) only = thread end
function init() began = now(); last = began end
function response() last = now() end
function last_answer() return only:get("last") - only:get("began") end
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst came to: answers per second, milliseconds; `failures` counts whatever was not a 2xx answer."""

    rate: float
    p50: float
    p99: float
    answers: int
    failures: int

    def record(self) -> dict[str, float]:
        """For the raw results."""
        return asdict(self)


class NoWrk(RuntimeError):
    """wrk is not installed."""

    def __init__(self) -> None:
        super().__init__("wrk is needed as the client: it is Debian's package wrk (apt-get install wrk)")


class Refused(RuntimeError):
    """A server answered a job's first request with something else than success."""


def burst(port: int, spelling: Spelling, connections: int, seconds: float, *, slow: bool = False) -> Burst:
    """Closed-loop load for about `seconds`, after a short warm-up that is not counted."""
    _wait_for_an_answer(port, spelling)
    _wrk(port, spelling, connections, max(0.25, seconds / 6), slow=slow)
    return _wrk(port, spelling, connections, seconds, slow=slow)


def _wait_for_an_answer(port: int, spelling: Spelling) -> None:
    """A server that stood still may need a moment. Raises Refused or OSError where it needs too long."""
    end = time.monotonic() + WAKE_WITHIN
    while True:
        try:
            ask(port, spelling)
        except (Refused, OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def ask(port: int, spelling: Spelling, number: int = 0, seed: int | None = None) -> tuple[bytes, dict[str, str]]:
    """One request: body and headers of its answer. Raises Refused where the status is not 200."""
    return next(ask_often(port, spelling, 1, number, seed))


def ask_often(
    port: int, spelling: Spelling, times: int, number: int = 0, seed: int | None = None
) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Requests one after the other over one connection, seeds counting up. Raises Refused."""
    first = next_seeds() if seed is None else seed
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        for turn in range(times):
            body = spelling.body(number + turn, first + turn)
            connection.request("POST", spelling.path, body, dict(line.split(": ", 1) for line in spelling.headers))
            response = connection.getresponse()
            answer, headers = response.read(), {name.lower(): value for name, value in response.getheaders()}
            if response.status != 200:
                raise Refused(f"{spelling.path} answered {response.status}: {answer[:200].decode(errors='replace')}")
            yield answer, headers
    finally:
        connection.close()


def next_seeds() -> int:
    """The first of ten million seeds that nobody else gets in this run."""
    return FIRST_SEED + next(_bursts) * _SEEDS_PER_BURST


def version() -> str:
    """The version of wrk. Raises NoWrk."""
    path = shutil.which("wrk")
    if path is None:
        raise NoWrk
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).split("\n", 1)[0].split("[")[0].strip()


def _wrk(port: int, spelling: Spelling, connections: int, seconds: float, *, slow: bool) -> Burst:
    with tempfile.NamedTemporaryFile("w", suffix=".lua", prefix="burst-") as script:
        script.write((_CLOCK if slow else _NO_CLOCK) + _script(spelling))
        script.flush()
        # wrk takes whole seconds only, but an interrupt ends it at any time, with its figures right.
        command = [
            "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{math.ceil(seconds) + 1}s",
            "--timeout", f"{PATIENCE:.0f}s", "--script", script.name, f"http://127.0.0.1:{port}{spelling.path}",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as wrk:
            try:
                said, _ = wrk.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                wrk.send_signal(signal.SIGINT)
                said, _ = wrk.communicate(timeout=PATIENCE)
            finally:
                wrk.kill()
    lines = [line[1:] for line in said.splitlines() if line.startswith("@")]
    if not lines:
        raise RuntimeError(f"wrk ended without a result: {said.strip()[-300:]}")
    seen = json.loads(lines[0])
    duration = seen["last"] or seen["microseconds"] / 1e6
    rate = seen["answers"] / duration if duration else 0.0
    return Burst(rate, seen["p50"] / 1e3, seen["p99"] / 1e3, int(seen["answers"]), int(seen["failures"]))


def _script(spelling: Spelling) -> str:
    heads = ",\n".join(_lua_text(_request(spelling, head)) for head in spelling.heads)
    tail = "nil" if spelling.tail is None else _lua_text(spelling.tail)
    return _SCRIPT.replace("SEED", str(next_seeds())).replace("TAIL", tail).replace("HEADS", heads)


def _request(spelling: Spelling, head: str) -> str:
    more = 0 if spelling.tail is None else len(str(FIRST_SEED)) + len(spelling.tail)
    lines = (f"POST {spelling.path} HTTP/1.1", "Host: 127.0.0.1", *spelling.headers)
    return "\r\n".join((*lines, f"Content-Length: {len(head) + more}", "", head))


def _lua_text(text: str) -> str:
    return '"' + _NOT_PLAIN.sub(lambda found: f"\\{ord(found[0]):03}", text) + '"'
