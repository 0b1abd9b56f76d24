"""Asks the service in rounds: one worker with a core of its own, the load on another; two that share both with it.

What was asked is a point: closed loops of some connections, or arrivals at random as a share of what one worker can do.
Knows nothing of the model.
"""

from __future__ import annotations

import http.client
import math
import os
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import load, store
from benchmarks.capacity import arrivals
from benchmarks.capacity.calibration import Load
from benchmarks.jobs import Job, ours
from benchmarks.servers import Server, penumbra
from models.repository import Repository
from service.batching import COMPANY_SECONDS
from service.engine.query import Committee
from service.jobs import Job as Query
from service.jobs import Sampling
from service.served import Loader

JOBS = (Job("predict-S-1", "S", 1, samples=0), Job("sample-S-1", "S", 1))
ALONE, CROWDED = 1, 32  # connections by which one worker is calibrated
CLOSED = ((1, 4), (1, 16), (1, 64), (2, 8), (2, 32))  # workers and connections that are foretold
SHARES = (0.3, 0.6, 0.8)  # of what one worker answers when crowded
LONE_RATE = 100.0  # requests a second that hardly ever meet


@dataclass(frozen=True, slots=True)
class Point:
    """What is asked of how many workers: `connections`, or `rate` arrivals a second, each for a job."""

    job: str
    workers: int
    connections: int = 0
    rate: float = 0.0
    repeated: bool = False


@dataclass(slots=True)
class Measured:
    """All that was seen: `loads` of each point, round by round."""

    loads: dict[Point, list[Load]] = field(default_factory=lambda: defaultdict(list))
    most: dict[str, int] = field(default_factory=dict)  # requests in one evaluation
    lengths: dict[str, int] = field(default_factory=dict)  # bytes of an answer's body

    def median(self, point: Point) -> Load:
        """Each figure's median over the quieter half of the rounds: those in which others used the machine least."""
        rounds = sorted(self.loads[point], key=lambda seen: seen.others)
        return Load(*map(statistics.median, zip(*map(astuple, rounds[: (len(rounds) + 1) // 2]), strict=True)))

    def arrivals(self, job: str) -> list[Point]:
        """Points of an open loop, the slowest first."""
        return sorted((point for point in self.loads if point.job == job and point.rate), key=lambda point: point.rate)


class TooFewCores(RuntimeError):
    """Service and load need a core each."""


def measure(budget: float, seconds: float) -> Measured:
    """Starts both services, asks them in rounds for about `budget` seconds, and ends them.

    Bursts take some `seconds` each. Raises TooFewCores, load.NoWrk or load.Refused.
    """
    load.version()
    end = time.monotonic() + budget
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise TooFewCores("two cores are needed: one for the service, one for the load")
    for_service, for_load = {usable[0]}, {usable[1]}
    measured = Measured()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penumbra-capacity-")))
        store.fill(home / "store")
        measured.most = {job.name: _most(home / "store", job) for job in JOBS}
        with bound(for_service):
            one = penumbra(home / "store", home / "one.log", 1)
        stack.callback(one.stop)
        with bound(for_service | for_load):
            two = penumbra(home / "store", home / "two.log", 2)
        stack.callback(two.stop)
        for turn in count():
            if turn and time.monotonic() > end:
                break
            for job in JOBS:
                one.settle()
                with bound(for_load):
                    _round_of_one(measured, one, job, seconds, turn)
                with bound(for_service | for_load):
                    for workers, connections in CLOSED:
                        if workers == 2:
                            _closed(measured, two, job, Point(job.name, 2, connections), seconds)
    return measured


def _round_of_one(measured: Measured, server: Server, job: Job, seconds: float, turn: int) -> None:
    measured.lengths[job.name] = len(load.ask(server.port, ours(job))[0])
    connections = (ALONE, CROWDED, *(number for workers, number in CLOSED if workers == 1))
    for number in connections:
        _closed(measured, server, job, Point(job.name, 1, number), seconds)
    if job.samples:
        _closed(measured, server, job, Point(job.name, 1, CROWDED, repeated=True), seconds)
    most = measured.loads[Point(job.name, 1, CROWDED)][0].rate
    for rate in (LONE_RATE, *(most * share for share in SHARES)):
        clock, before = Clock(server), _before(server, job)
        seen = arrivals.arrive(server.port, ours(job), rate, seconds, seed=turn)
        others = clock.others()
        service, company = _difference(before, _after(server, job))
        found = Load(seen.rate, seen.percentile(50), seen.percentile(99), service, 0.0, company, others)
        measured.loads[Point(job.name, 1, rate=rate)].append(found)
        _say(Point(job.name, 1, rate=rate), found)


def _closed(measured: Measured, server: Server, job: Job, point: Point, seconds: float) -> None:
    before, client, clock = _before(server, job), _client_seconds(), Clock(server)
    spelling = ours(replace(job, seeds="repeated") if point.repeated else job)
    burst = load.burst(server.port, spelling, point.connections, seconds)
    others = clock.others()
    if burst.failures:
        raise load.Refused(f"{burst.failures} of {burst.answers} requests failed")
    after, client = _after(server, job), _client_seconds() - client
    if point.repeated:  # what is found is not evaluated; the warm-up lasts a sixth of the burst, or a quarter second
        answers = burst.answers * (1 + max(0.25, seconds / 6) / seconds)
        service, company = (after[0] - before[0]) / answers, 1.0
    else:
        service, company = _difference(before, after)
        answers = after[1] - before[1]
    found = Load(burst.rate, burst.p50 / 1e3, burst.p99 / 1e3, service, client / answers, company, others)
    measured.loads[point].append(found)
    _say(point, found)


def _say(point: Point, seen: Load) -> None:
    print(
        f"{time.strftime('%H:%M:%S')} {point.job:<12} {point.workers} × {point.connections or round(point.rate):>5}"
        f"{' again' if point.repeated else '':<6} {seen.rate:>7.0f}/s  p50 {seen.p50 * 1e3:>6.2f} ms  "
        f"p99 {seen.p99 * 1e3:>6.2f} ms  {seen.service * 1e6:>4.0f} + {seen.client * 1e6:>3.0f} µs  "
        f"in company {seen.company:>4.1f}   others {seen.others:.0%}",
        flush=True,
    )


def _most(folder: Path, job: Job) -> int:
    """So many of these the event loop evaluates together, as the service estimates them."""
    model = Loader(Repository(folder))(job.model, "1")
    if model is None:
        raise RuntimeError("a model of ours does not load; this is a bug")
    inputs = np.zeros((job.rows, model.network.inputs))
    sampling = Sampling(inputs, Committee(0, job.samples)) if job.samples else None
    cut = model.network.trained if job.samples else model.full[0]
    return math.ceil(COMPANY_SECONDS / Query(model, inputs, (model.network,), (cut,), sampling).seconds)


def _before(server: Server, job: Job) -> tuple[float, float, float]:
    """Seconds of a core, requests and companies up to now; to ask for them costs nothing that comes later."""
    requests, companies = _counts(server, job)
    return server.cpu_seconds(), requests, companies


def _after(server: Server, job: Job) -> tuple[float, float, float]:
    """The same, and to ask costs nothing that came before."""
    seconds = server.cpu_seconds()
    return seconds, *_counts(server, job)


def _counts(server: Server, job: Job) -> tuple[float, float]:
    """Requests that were evaluated, and companies."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=load.PATIENCE)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    asked = {"model": job.model, "operation": "sample" if job.samples else "predict"}
    requests = companies = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if asked.items() <= sample.labels.items():
                requests += sample.value if sample.name == "penumbra_company_requests_sum" else 0.0
                companies += sample.value if sample.name == "penumbra_company_requests_count" else 0.0
    return requests, companies


def _difference(before: Iterable[float], after: Iterable[float]) -> tuple[float, float]:
    """Seconds of a core for each request, and requests in a company."""
    seconds, requests, companies = (now - then for then, now in zip(before, after, strict=True))
    return seconds / requests, requests / companies


def _client_seconds() -> float:
    """What children that have ended took: here, wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Clock:
    """What others took of the machine, from now on: all that was neither idle, nor the server's, nor its load's."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._began, self._busy, self._ours = self._now()

    def others(self) -> float:
        """Their share of all cores' time."""
        now, busy, ours = self._now()
        taken = (busy - self._busy) - (ours - self._ours)
        return max(0.0, taken / ((now - self._began) * (os.cpu_count() or 1)))

    def _now(self) -> tuple[float, float, float]:
        ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = (int(each) / os.sysconf("SC_CLK_TCK") for each in ticks)
        ours = self._server.cpu_seconds() + _client_seconds() + time.process_time()
        return time.perf_counter(), user + nice + system + irq + softirq + steal, ours


@contextmanager
def bound(cores: set[int]) -> Iterator[None]:
    """Binds the process, and what it starts, to some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
