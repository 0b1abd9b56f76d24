"""The simulation of the service is what queueing theory says, where it says something; plans are arithmetic."""

from __future__ import annotations

import math
import random
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.capacity.arrivals import CONNECTIONS, arrive
from benchmarks.capacity.calibration import Load, Stalls, fit, stalls, wake
from benchmarks.capacity.cores import Body, Cores, Process
from benchmarks.capacity.foretelling import plan
from benchmarks.capacity.simulation import Costs, Scene, closed, opened
from benchmarks.jobs import Spelling
from benchmarks.load import Refused

SERVICE = 1e-3
# Requests that are answered one after the other, as a plain queue has them.
PLAIN = Costs(company=0, read=0, answer=SERVICE)


def exponential(seed: int = 1):
    """Makes a need an exponential one of the same mean."""
    chance = random.Random(seed)
    return lambda seconds: chance.expovariate(1 / seconds) if seconds else 0.0


def share(process: Process, cores: Cores, needs: list[float], done: list[float]) -> Body:
    """Needs one after the other, noting when each was met."""
    for need in needs:
        yield need
        done.append(cores.now)
    while True:
        yield None


def pass_on(process: Process, other: Process, cores: Cores, done: list[float]) -> Body:
    """Serves one customer after the other, and hands each to the other."""
    while True:
        if not process.inbox:
            yield None
        customer = process.inbox.popleft()
        yield SERVICE
        done.append(cores.now)
        cores.deliver(other, customer)


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
def test_constant_service_times_wait_as_m_d_1(busy):
    """Pollaczek and Khinchine: waiting is ρ ÷ 2(1 − ρ) service times."""
    seen = opened(PLAIN, Scene(cores=1), busy / SERVICE, seconds=150)
    assert statistics.fmean(seen.latencies) / SERVICE == pytest.approx(1 + busy / 2 / (1 - busy), rel=0.06)


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
def test_random_service_times_wait_as_m_m_1(busy):
    """Times in the system are exponential, with mean 1 ÷ (μ − λ), percentiles included."""
    seen = opened(PLAIN, Scene(cores=1, vary=exponential()), busy / SERVICE, seconds=150)
    mean = SERVICE / (1 - busy)
    assert statistics.fmean(seen.latencies) == pytest.approx(mean, rel=0.08)
    assert seen.percentile(50) == pytest.approx(0.6931 * mean, rel=0.08)
    assert seen.percentile(99) == pytest.approx(4.6052 * mean, rel=0.12)


@pytest.mark.parametrize("customers", [1, 2, 5])
def test_two_equal_servers_in_a_ring_are_the_closed_network_of_gordon_and_newell(customers):
    """N customers, exponential times: each server is busy for N ÷ (N + 1) of its time."""
    cores, vary = Cores(2), exponential(2)
    one, other, done = Process(vary=vary), Process(vary=vary), []
    one.inbox.extend(range(customers))
    cores.begin(one, pass_on(one, other, cores, done))
    cores.begin(other, pass_on(other, one, cores, []))
    cores.run(60)
    assert len(done) / 60 * SERVICE == pytest.approx(customers / (customers + 1), rel=0.03)


@pytest.mark.parametrize("connections", [1, 2, 5, 30])
def test_a_closed_queue_with_one_server_never_idles(connections):
    """With a client that costs nothing: N customers wait for N service times (Little), however those vary."""
    for vary in (lambda seconds: seconds, exponential(2)):
        seen = closed(PLAIN, Scene(cores=2, vary=vary), connections, seconds=20)
        assert seen.rate * SERVICE == pytest.approx(1.0, rel=0.03)
        assert statistics.fmean(seen.latencies) == pytest.approx(connections * SERVICE, rel=0.03)


def test_a_lone_connection_is_one_way_round():
    """Alone, a request takes its own cost, and the client's comes on top before the next."""
    costs = Costs(company=100e-6, read=50e-6, answer=70e-6)
    seen = closed(costs, Scene(wake=20e-6, caller=30e-6), 1, seconds=1)
    assert seen.percentile(50) == pytest.approx((20 + 50 + 100 + 70 + 20 + 15) * 1e-6)
    assert 1 / seen.rate == pytest.approx((20 + 50 + 100 + 70 + 20 + 30) * 1e-6, rel=1e-3)


def test_company_forms_exactly_while_the_worker_is_busy():
    """A lone request has none; a crowd that costs its client nothing is evaluated together, and shares that cost."""
    costs = Costs(company=1e-3, read=1e-5, answer=1e-5)
    assert closed(costs, Scene(), 1, seconds=1).company == 1
    crowd = closed(costs, Scene(caller=1e-9), 50, seconds=2)
    assert crowd.company > 45
    assert crowd.rate == pytest.approx(1 / costs.seconds(crowd.company), rel=0.02)


def test_no_company_is_larger_than_may_be():
    """The event loop computes a few milliseconds at once."""
    seen = closed(Costs(1e-3, 1e-5, 1e-5, most=8), Scene(), 32, seconds=0.5)
    assert max(seen.companies) == 8


def test_two_workers_that_share_two_cores_with_their_client_are_less_than_two():
    """What the client takes of the cores, the workers lack."""
    costs = Costs(company=0, read=1e-4, answer=1e-4)
    alone = closed(costs, Scene(workers=1, caller=5e-5), 32, seconds=2)
    both = closed(costs, Scene(workers=2, caller=5e-5), 32, seconds=2)
    ample = closed(costs, Scene(workers=2, cores=3, caller=5e-5), 32, seconds=2)
    assert alone.rate == pytest.approx(5_000, rel=0.01)
    assert ample.rate == pytest.approx(10_000, rel=0.03)
    assert alone.rate < both.rate <= 2 / (2e-4 + 5e-5) * 1.001


def test_processes_share_cores_equally():
    """Three on two cores: two thirds each, and all of a core once one is done."""
    cores, done = Cores(2), []
    for needs in ([2.0], [2.0], [4.0]):
        process = Process()
        cores.begin(process, share(process, cores, needs, done))
    cores.run(10.0)
    assert done == pytest.approx([3.0, 3.0, 5.0])


@given(
    request=st.floats(1e-5, 1e-2), company=st.floats(1e-6, 1e-2), crowd=st.floats(1.5, 64), slow=st.floats(1e-6, 1e-3)
)
def test_a_calibration_finds_the_costs_that_were_measured(request, company, crowd, slow):
    """Two measurements of a service that is as the model has it give its parameters back."""
    alone = Load(1, request + company + 2e-5 + 2 * slow, 1, request + company, 2e-5, 1.0)
    crowded = Load(1, 1, 1, request + company / crowd, 1e-5, crowd)
    costs = fit(alone, crowded, most=40)
    assert costs.request == pytest.approx(request, rel=1e-6, abs=1e-12)
    assert costs.company == pytest.approx(company, rel=1e-6, abs=1e-12)
    assert wake(costs, alone) == pytest.approx(slow, rel=1e-6, abs=1e-12)


def test_stalls_take_the_time_that_they_say():
    """So many a second of busy time, of that length on average; none where there are none."""
    vary = Stalls(rate=50, mean=0.002).vary(seed=1)
    assert sum(vary(0.01) for _ in range(2_000)) == pytest.approx(20 * 1.1, rel=0.02)
    assert Stalls(0.0, 0.0).vary(seed=1)(0.5) == 0.5


@given(rate=st.floats(1, 500), mean=st.floats(1e-4, 1e-2), asked=st.floats(2_000, 5_000))
def test_stalls_are_found_from_what_they_do_to_one_request_in_a_hundred(rate, mean, asked):
    """Percentiles as stalls of one rate and length would have them give both back."""

    def load(answers: float, p50: float, each: float) -> Load:
        """One request in a hundred is hit by a stall of that length or a longer one."""
        longer = mean * math.log(rate * each / (0.01 * answers))
        return Load(answers, p50, p50 + longer, 1e-4, 1e-5, each)

    crowd = 32 / 4_000
    assume(rate > 0.011 * asked)
    found = stalls(load(asked, 3e-4, 1), load(4_000, crowd, 32))
    assert found.rate == pytest.approx(rate, rel=1e-6)
    assert found.mean == pytest.approx(mean, rel=1e-6)


def test_without_stragglers_there_are_no_stalls():
    """Where the slowest are like the others, nothing is added."""
    assert stalls(Load(2_000, 4e-4, 4e-4, 1, 1, 1), Load(7_000, 4e-3, 4e-3, 1, 1, 30)) == Stalls(0.0, 0.0)


@contextmanager
def server(status: int) -> Iterator[tuple[int, list[bytes]]]:
    """A real one, on a port of its own, that answers all with one status; and the bodies it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            """Says nothing."""

    class Listening(ThreadingHTTPServer):
        request_queue_size = CONNECTIONS  # they come all at once

    with Listening(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listening.server_port, bodies
        finally:
            listening.shutdown()
            thread.join()


def test_every_request_of_an_open_loop_is_answered_and_has_a_seed_of_its_own():
    """As many answers as requests, heads and bodies in whatever pieces they come."""
    spelling = Spelling("/v1", ('{"inputs":[[1]],"seed":',), "}")
    with server(200) as (port, bodies):
        seen = arrive(port, spelling, rate=200, seconds=0.1, seed=1)
    assert len(seen.latencies) == len(bodies) == len(set(bodies)) > 0
    assert min(seen.latencies) > 0


def test_an_open_loop_that_is_refused_says_so():
    """A refusal is no answer, and would be a fast one."""
    with server(503) as (port, _), pytest.raises(Refused, match="503"):
        arrive(port, Spelling("/v1", ("{}",)), rate=200, seconds=0.1, seed=1)


@given(rate=st.floats(0.1, 1e6), seconds=st.floats(1e-5, 1e-2), busy=st.floats(0.1, 1), hits=st.floats(0, 1))
def test_a_plan_has_workers_enough_and_none_to_spare(rate, seconds, busy, hits):
    """No worker is busier than it may be; with one less, some would be. What is found costs what finding costs."""
    found = seconds / 4
    made = plan(seconds, rate, busy, hits, found)
    assert made.busy == pytest.approx(rate * (seconds * (1 - hits) + found * hits))
    assert made.busy <= made.workers * busy * (1 + 1e-9)
    assert made.workers == 1 or made.busy > (made.workers - 1) * busy * (1 - 1e-9)
    assert made.core_hours == pytest.approx(made.workers / rate * 1e6 / 3600)


@pytest.mark.parametrize("wrong", [{"busy": 0}, {"busy": 1.1}, {"hits": -0.1}, {"rate": 0}, {"seconds": 0}])
def test_a_plan_for_nonsense_is_refused(wrong):
    """Shares are shares, and a load is one."""
    with pytest.raises(ValueError, match="busy is in"):
        plan(**{"seconds": 1e-3, "rate": 10, "busy": 0.7, **wrong})
