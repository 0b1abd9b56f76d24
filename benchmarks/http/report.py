"""The section on HTTP in RESULTS.md, from raw results. Measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.http import beside
from benchmarks.jobs import Job
from benchmarks.report import figure, ratio, table
from benchmarks.rounds import Results

_ABOUT = """\
S is 13 → 50 → 50 → 1 with p = 0.1, W is 64 → 512 → 512 → 512 → 10 with p = 0.1, W5 is W with p = 0.5. Every sampling
request has a seed of its own, unless the table says otherwise. wrk is the client, with one thread, on the same cores;
contenders take turns burst by burst, and figures are medians over the rounds. *Bare* is uvicorn with an ASGI callable
that parses the same JSON and answers as many bytes as the service does, with as many workers. *GEMM* is what the cores
could do if a request were its dense matrix products alone, one thread each. *Both* is the rate at which one after the
other would go: 1 / (1 / bare + 1 / GEMM)."""

_ABOUT_LONE = """\
Milliseconds at one connection. *Compute* is what the service says of itself in `Server-Timing`; *added* is what is left
of the median when bare and compute are taken away."""
_ABOUT_BESIDE = f"""\
S, 100 samples of a row, alone and while requests for {beside.LONG.samples:,} samples of W are answered, one after the
other; milliseconds."""


def section(results: Results, jobs: Sequence[Job]) -> str:
    """The whole section, Markdown."""
    jobs = [job for job in jobs if any(seen["job"] == job.name for seen in results.bursts)]
    facts = results.facts
    workers = facts["workers"]
    parts = [
        "## Over HTTP",
        f"{facts['machine']}; {facts['wrk']}, uvicorn {facts['uvicorn']}.",
        _ABOUT,
    ]
    for number in workers:
        parts += [f"### Requests per second, {_workers(number)}", _rates(results, jobs, number)]
    parts += [
        "### A lone request",
        _ABOUT_LONE,
        _lone(results, jobs, workers),
        "### Beside a large request",
        _ABOUT_BESIDE,
        _beside(results, workers),
        *_identity(results),
    ]
    if results.complaints:
        parts += ["### What went wrong", "\n".join(f"- {complaint}" for complaint in results.complaints)]
    return "\n\n".join(parts)


def _workers(number: int) -> str:
    return "one worker" if number == 1 else f"{number} workers"


def _rates(results: Results, jobs: Iterable[Job], workers: int) -> str:
    rows = []
    for job in jobs:
        for connections in job.connections:
            if connections == 1 and len(job.connections) > 1:
                continue  # said in the next table
            place = (job.name, connections)
            ours = results.median(f"penumbra-{workers}", *place, "rate")
            bare = results.median(f"bare-{workers}", *place, "rate")
            gemm = results.gemm_rate(job)
            both = 1 / (1 / bare + 1 / gemm) if bare and gemm else None
            rows.append(
                [
                    job.title,
                    str(connections),
                    *map(figure, (ours, bare, gemm, both)),
                    *(ratio(ours, floor) for floor in (bare, gemm, both)),
                    *(figure(results.median(f"penumbra-{workers}", *place, what)) for what in ("p50", "p99")),
                    figure(results.median(f"bare-{workers}", *place, "p99")),
                ]
            )
    header = ["job", "conn.", "Penumbra", "bare", "GEMM", "both", "÷ bare", "÷ GEMM", "÷ both"]
    return table([*header, "p50 ms", "p99 ms", "bare p99"], rows)


def _lone(results: Results, jobs: Iterable[Job], workers: Iterable[int]) -> str:
    rows = []
    for number in workers:
        for job in jobs:
            if 1 not in job.connections:
                continue
            p50, p99 = (results.median(f"penumbra-{number}", job.name, 1, what) for what in ("p50", "p99"))
            bare = results.median(f"bare-{number}", job.name, 1, "p50")
            seen = results.facts.get("compute", {}).get(f"penumbra-{number}", {}).get(job.name)
            compute = statistics.median(seen) if seen else None
            added = p50 - bare - compute if p50 and bare and compute is not None else None
            rows.append([job.title, str(number), *map(figure, (p50, p99, bare, compute, added))])
    return table(["job", "workers", "p50", "p99", "bare p50", "compute", "added"], rows)


def _beside(results: Results, workers: Iterable[int]) -> str:
    rows = []
    for number in workers:
        for connections in beside.CONNECTIONS:
            name = f"penumbra-{number}"
            alone, company = (results.median(name, job, connections, "p99") for job in (beside.ALONE, beside.BESIDE))
            more = company - alone if alone and company else None
            rates = [results.median(name, job, connections, "rate") for job in (beside.ALONE, beside.BESIDE)]
            rows.append([_workers(number), str(connections), *map(figure, (*rates, alone, company, more))])
    return table(["", "conn.", "alone /s", "beside /s", "p99 alone", "p99 beside", "more"], rows)


def _identity(results: Results) -> list[str]:
    differing: dict[str, int] = results.facts.get("differing", {})
    if not differing:
        return []
    said = "; ".join(
        f"{_workers(int(name.rpartition('-')[2]))}: {'all the same bytes' if not count else f'{count} differ'}"
        for name, count in differing.items()
    )
    return ["### The same answer under load", f"One seeded request 30 times beside sixteen busy connections: {said}."]
