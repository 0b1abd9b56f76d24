"""The service as few processes: workers as `service/batching` has them, and two kinds of callers.

A worker reads what has arrived, where that is several once more as long as it brings somebody new, evaluates all of it
together, and answers one after the other; then it looks again. Company therefore forms while it is busy. Connections
are divided evenly among workers, as `service/listening` does. Not modelled: requests that are too large for the event
loop, refusals, deadlines.
"""

from __future__ import annotations

import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.capacity.cores import Body, Cores, Process

TURNS = 8  # of the event loop, that company may take to gather
WARM_UP = 0.1  # of the simulated time, not counted
Vary = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a core: `company` for each evaluation, whoever shares it; `read` and `answer` for each request.

    What evaluating takes for each request is part of both, in halves with all else. At most `most` requests are
    evaluated together.
    """

    company: float
    read: float
    answer: float
    most: int = 10**9

    @property
    def request(self) -> float:
        """For each request, whoever keeps it company."""
        return self.read + self.answer

    def seconds(self, company: float) -> float:
        """A request's whole cost, where so many share an evaluation."""
        return self.request + self.company / company


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and by whom the service is asked.

    `wake`: seconds that a process needs to begin after it slept; `caller`: seconds of a core that the client of a
    closed loop takes for each request. `vary` says how long it takes a worker what should take
    it some seconds; by default just those.
    """

    workers: int = 1
    cores: int = 2
    wake: float = 0.0
    caller: float = 0.0
    vary: Vary = lambda seconds: seconds
    seed: int = 0


@dataclass(slots=True)
class Seen:
    """What came out: answers per second, seconds each took, requests in a company."""

    latencies: list[float] = field(default_factory=list)
    companies: list[int] = field(default_factory=list)
    rate: float = 0.0

    def percentile(self, percent: int) -> float:
        """Seconds that so many percent of the answers did not exceed."""
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]

    @property
    def company(self) -> float:
        """Requests evaluated together, on average."""
        return statistics.fmean(self.companies)


@dataclass(slots=True, eq=False)
class _Request:
    worker: Process
    asked: float = 0.0


def closed(costs: Costs, scene: Scene, connections: int, seconds: float) -> Seen:
    """One client with `connections`, each with one request under way, as wrk asks: it shares the cores with workers."""
    cores, seen, began = Cores(scene.cores), Seen(), seconds * WARM_UP
    client = Process(scene.wake)
    workers = _workers(costs, scene, cores, seen, lambda request: cores.deliver(client, request))

    def body() -> Body:
        while True:
            if not client.inbox:
                yield None
            answered = _taken(client.inbox)
            for request in answered:
                yield scene.caller / 2
                if request.asked > began:
                    seen.latencies.append(cores.now - request.asked)
            for request in answered:
                yield scene.caller / 2
                request.asked = cores.now
                cores.deliver(request.worker, request)

    client.inbox.extend(_Request(workers[number % len(workers)]) for number in range(connections))
    cores.begin(client, body())
    return _run(cores, seen, seconds)


def opened(costs: Costs, scene: Scene, rate: float, seconds: float) -> Seen:
    """Callers who know nothing of each other: arrivals at random (Poisson), `rate` a second, to any of the workers."""
    cores, seen, began, chance = Cores(scene.cores), Seen(), seconds * WARM_UP, random.Random(scene.seed)

    def reply(request: _Request) -> None:
        if request.asked > began:
            seen.latencies.append(cores.now - request.asked)

    workers = _workers(costs, scene, cores, seen, reply)

    def arrive() -> None:
        worker = chance.choice(workers)
        cores.deliver(worker, _Request(worker, cores.now))
        cores.at(cores.now + chance.expovariate(rate), arrive)

    cores.at(chance.expovariate(rate), arrive)
    return _run(cores, seen, seconds)


def _run(cores: Cores, seen: Seen, seconds: float) -> Seen:
    cores.run(seconds)
    seen.rate = len(seen.latencies) / (seconds * (1 - WARM_UP))
    return seen


def _workers(
    costs: Costs, scene: Scene, cores: Cores, seen: Seen, reply: Callable[[_Request], None]
) -> Sequence[Process]:
    workers = [Process(scene.wake, scene.vary) for _ in range(scene.workers)]
    for worker in workers:
        cores.begin(worker, _serve(costs, worker, seen, reply))
    return workers


def _serve(costs: Costs, worker: Process, seen: Seen, reply: Callable[[_Request], None]) -> Body:
    waiting: deque[_Request] = deque()
    while True:
        if not (worker.inbox or waiting):
            yield None
        # What is left of those who were read before is evaluated at once, and one who came alone waits for nobody.
        turns = 0 if not waiting else TURNS
        while worker.inbox and turns < TURNS and (turns == 0 or 1 < len(waiting) < costs.most):
            turns += 1
            for request in _taken(worker.inbox):
                yield costs.read
                waiting.append(request)
        company = [waiting.popleft() for _ in range(min(len(waiting), costs.most))]
        seen.companies.append(len(company))
        yield costs.company
        for request in company:
            yield costs.answer
            reply(request)


def _taken(inbox: deque[_Request]) -> list[_Request]:
    found = list(inbox)
    inbox.clear()
    return found
