"""The service over HTTP beside its floors, with one worker and with two.

    python -m benchmarks.http             everything, about eight minutes; writes its section of benchmarks/RESULTS.md
    python -m benchmarks.http --quick     one short round; writes nothing
    python -m benchmarks.http --jobs J …   some jobs; writes nothing
    python -m benchmarks.http --render F  writes the section again from raw results

Needs wrk.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from benchmarks import load, store
from benchmarks.gemm import Floor
from benchmarks.http import beside
from benchmarks.http.floor import as_long_as, bare_server
from benchmarks.http.report import section
from benchmarks.identity import differing_answers
from benchmarks.jobs import JOBS, Job, ours
from benchmarks.load import NoWrk
from benchmarks.report import write_section
from benchmarks.rounds import Contender, Results, cells, measure, measure_gemm
from benchmarks.servers import bounded, penumbra
from benchmarks.timing import machine
from service.settings import usable_cores

WORKERS = (1, 2)
SCALE = 0.75
_COMPUTE = re.compile(r"compute;dur=([0-9.]+)")
RAW = Path(__file__).parent.parent / ".raw" / "http.json"
OWN_JOBS = (
    *JOBS,
    Job("repeated-S-1", "S", 1, seeds="repeated", connections=(32,)),
    Job("repeated-W-1", "W", 1, seeds="repeated", connections=(32,)),
)


def main() -> None:
    """Measures, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", nargs="+", metavar="NAME", choices=[job.name for job in OWN_JOBS], default=None)
    parser.add_argument("--json", type=Path, default=RAW, metavar="FILE", help="where raw results go")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing: the section from raw results")
    given = parser.parse_args()
    if given.render:
        write_section("http", section(Results.load(given.render), OWN_JOBS))
        return
    jobs = [job for job in OWN_JOBS if not given.jobs or job.name in given.jobs]
    try:
        with bounded(minutes=40):
            results = run(jobs, 1 if given.quick else given.rounds, SCALE / 2 if given.quick else SCALE, given.json)
    except NoWrk as error:
        sys.exit(str(error))
    text = section(results, jobs)
    print("\n" + text)
    if not (given.quick or given.jobs):
        write_section("http", text)


def run(jobs: list[Job], rounds: int, scale: float, raw: Path) -> Results:
    """Starts everything, measures, and ends everything."""
    results = Results(
        facts={"machine": machine(), "wrk": load.version(), "uvicorn": version("uvicorn"), "workers": WORKERS}
    )
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penumbra-http-")))
        store.fill(home / "store")
        services, bare = [], []
        floor = stack.enter_context(Floor(usable_cores()))
        for workers in WORKERS:
            server = penumbra(home / "store", home / f"penumbra{workers}.log", workers)
            stack.callback(server.stop)
            services.append(Contender(f"penumbra-{workers}", server, ours))
        results.facts["lengths"] = {job.name: len(load.ask(services[0].server.port, ours(job))[0]) for job in jobs}
        for workers in WORKERS:
            server = bare_server(home / f"bare{workers}.log", workers)
            stack.callback(server.stop)
            speak = as_long_as(results.facts["lengths"])
            bare.append(Contender(f"bare-{workers}", server, speak, most_seconds=1.5))
        for contender in services:
            contender.server.observe_idleness()
        for number in range(1, rounds + 1):
            measure(results, [*services, *bare], cells(jobs, scale), number)
            measure_gemm(results, floor, jobs)
            for contender in services:
                _compute_times(results, contender, jobs)
                beside.measure_beside(results, contender, 2 * scale, number)
            results.save(raw)
        for contender in services:
            contender.server.resume()
            results.facts.setdefault("differing", {})[contender.name] = differing_answers(
                contender.server.port, contender.speak
            )
            contender.server.pause()
        results.save(raw)
    return results


def _compute_times(results: Results, service: Contender, jobs: list[Job]) -> None:
    """Milliseconds of computation in a lone request, as the service itself says in Server-Timing: the median."""
    service.server.resume()
    try:
        for job in jobs:
            answered = load.ask_often(service.server.port, service.speak(job), times=5 if job.slow else 200)
            seen = [
                float(found[1]) for _, head in answered if (found := _COMPUTE.search(head.get("server-timing", "")))
            ]
            if seen:
                known = results.facts.setdefault("compute", {}).setdefault(service.name, {})
                known.setdefault(job.name, []).append(statistics.median(seen))
    finally:
        service.server.pause()


if __name__ == "__main__":
    main()
