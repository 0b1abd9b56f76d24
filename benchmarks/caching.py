"""Answers that are kept against answers that are computed: requests per second, in turns, in one run.

    python -m benchmarks.caching           about three minutes; writes its section of benchmarks/RESULTS.md
    python -m benchmarks.caching --quick   one short round; writes nothing

*Hit* asks sixteen questions over and over, *miss* a new one each time, both of one service; *off* asks as *miss* does,
of a service that keeps nothing. Needs wrk.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import command, load, store
from benchmarks.jobs import Job, Spelling, ours
from benchmarks.report import figure, ratio, table
from benchmarks.rounds import Cell, Contender, Results, measure
from benchmarks.servers import penumbra
from benchmarks.timing import machine

JOBS = (
    Job("sample-S-1", "S", 1, connections=(1, 32)),
    Job("sample-W-1", "W", 1, connections=(1, 32)),
    Job("sample-W-64", "W", 64, connections=(1, 8), slow=True),
)
_ABOUT = """\
A hundred samples of S (13 → 50 → 50 → 1) or W (64 → 512 → 512 → 512 → 10), requests per second. *Hit*: sixteen
questions over and over, which the service has answered before; *miss*: a new seed each time; *off*: the same as *miss*,
asked of a service with `--answer-cache-bytes 0`, so that *miss ÷ off* is what looking and keeping cost those who never
come back. One worker; wrk is the client, with one thread, on the same cores; contenders take turns, figures are
medians."""


def main() -> None:
    """Measures, and writes the section."""
    command.run(
        "caching",
        __doc__,
        lambda quick: section(run(rounds=1 if quick else 7, seconds=1.0 if quick else 1.5)),
        minutes=15,
    )


def run(rounds: int, seconds: float) -> Results:
    """Starts both services, measures, and ends them."""
    results = Results(facts={"machine": machine(), "wrk": load.version()})
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penumbra-caching-")))
        store.fill(home / "store")
        keeping = penumbra(home / "store", home / "keeping.log", 1)
        stack.callback(keeping.stop)
        computing = penumbra(home / "store", home / "computing.log", 1, "--answer-cache-bytes", "0")
        stack.callback(computing.stop)
        contenders = [
            Contender("hit", keeping, _repeated),
            Contender("miss", keeping, ours),
            Contender("off", computing, ours),
        ]
        for job in JOBS:  # so that each question has been answered before
            for _ in load.ask_often(keeping.port, _repeated(job), store.POOL):
                pass
        cells = [Cell(job, connections, seconds) for job in JOBS for connections in job.connections]
        for number in range(1, rounds + 1):
            # Each is first as often as last: who follows whom must not matter.
            measure(results, contenders if number % 2 else contenders[::-1], cells, number)
    return results


def _repeated(job: Job) -> Spelling:
    return ours(replace(job, seeds="repeated"))


def section(results: Results) -> str:
    """The whole section, Markdown."""
    rows = []
    for job in JOBS:
        for connections in job.connections:
            hit, miss, off = (results.median(name, job.name, connections, "rate") for name in ("hit", "miss", "off"))
            rates = map(figure, (hit, miss, off))
            rows.append([f"{job.model}, rows {job.rows}", str(connections), *rates, ratio(hit, miss), ratio(miss, off)])
    parts = [
        "## Answers that are kept",
        f"{results.facts['machine']}; {results.facts['wrk']}.",
        _ABOUT,
        table(["model", "conn.", "hit", "miss", "off", "hit ÷ miss", "miss ÷ off"], rows),
    ]
    if results.complaints:
        parts += ["### What went wrong", "\n".join(f"- {complaint}" for complaint in results.complaints)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
