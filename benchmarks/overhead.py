"""What metrics and logs cost: requests per second with and without them, in turns, in one run.

    python -m benchmarks.overhead           everything, about eight minutes; writes its section of benchmarks/RESULTS.md
    python -m benchmarks.overhead --quick   a few rounds; writes nothing

Figures of two bursts that follow each other are compared, and the median over many such pairs is told: a burst's rate
varies by more than what is looked for. Needs wrk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import load, store
from benchmarks.jobs import JOBS, ours
from benchmarks.load import NoWrk
from benchmarks.report import figure, table, write_section
from benchmarks.rounds import Cell, Contender, Results, measure
from benchmarks.servers import bounded, penumbra
from benchmarks.timing import machine

WORKERS = (1, 2)
CONNECTIONS, SECONDS, ROUNDS = 32, 1.0, 30
WITHOUT = "without"
KINDS = {
    WITHOUT: ("--metrics", "off", "--access-log", "off"),
    "metrics": ("--metrics", "on", "--access-log", "off"),
    "both": (),  # as it is shipped
}
CELLS = [Cell(job, CONNECTIONS, SECONDS) for job in JOBS if job.name in ("predict-S-1", "sample-S-1")]
RAW = Path(__file__).parent / ".raw" / "overhead.json"
_ABOUT = f"""\
One row of S (13 → 50 → 50 → 1), {CONNECTIONS} connections, wrk on the same cores. *Without* has neither metrics nor
access log, *both* is the service as it ships, its log going to a file. Requests per second are medians; *cost* is the
median of the pairs of bursts that followed each other, with its standard error (1.25 standard deviations ÷ √pairs)."""


def main() -> None:
    """Measures, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rounds; writes nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="measure these; writes nothing")
    given = parser.parse_args()
    try:
        with bounded(minutes=30):
            results = run(6 if given.quick else given.rounds, tuple(given.workers))
    except NoWrk as error:
        sys.exit(str(error))
    text = section(results)
    print("\n" + text)
    if not given.quick and tuple(given.workers) == WORKERS:
        write_section("overhead", text)


def run(rounds: int, workers: tuple[int, ...]) -> Results:
    """Starts everything, measures, and ends everything."""
    results = Results(facts={"machine": machine(), "wrk": load.version(), "workers": workers})
    with tempfile.TemporaryDirectory(prefix="penumbra-overhead-") as home:
        store.fill(Path(home) / "store")
        for number in workers:
            with ExitStack() as stack:
                contenders = []
                for kind, flags in KINDS.items():
                    server = penumbra(Path(home) / "store", Path(home) / f"{kind}{number}.log", number, *flags)
                    stack.callback(server.stop)
                    contenders.append(Contender(f"{kind}-{number}", server, ours))
                for turn in range(rounds):
                    # Each is first as often as last: who follows whom must not matter.
                    measure(results, contenders if turn % 2 else contenders[::-1], CELLS, turn)
    results.save(RAW)
    return results


def section(results: Results) -> str:
    """The whole section, Markdown."""
    rows = []
    for number in results.facts["workers"]:
        for cell in CELLS:
            rates = [results.median(f"{kind}-{number}", cell.job.name, cell.connections, "rate") for kind in KINDS]
            costs = [_cost(list(_pairs(results, f"{kind}-{number}", f"{WITHOUT}-{number}", cell))) for kind in KINDS]
            rows.append([cell.job.title, str(number), *map(figure, rates), *costs[1:]])
    header = ["job", "workers", *(f"{kind} /s" for kind in KINDS), *(f"cost of {kind}" for kind in list(KINDS)[1:])]
    complaints = [f"- {complaint}" for complaint in results.complaints]
    facts = f"{results.facts['machine']}; {results.facts['wrk']}."
    return "\n\n".join(["## Metrics and logs", facts, _ABOUT, table(header, rows), *complaints])


def _pairs(results: Results, one: str, other: str, cell: Cell) -> Iterator[float]:
    """How much slower one was than the other, as a fraction, in each round in which nothing failed."""
    found: dict[int, dict[str, float]] = {}
    for burst in results.bursts:
        if (burst["job"], burst["failures"]) == (cell.job.name, 0) and burst["contender"] in (one, other):
            found.setdefault(burst["round"], {})[burst["contender"]] = burst["rate"]
    for rates in found.values():
        if one in rates and other in rates:
            yield 1 - rates[one] / rates[other]


def _cost(pairs: list[float]) -> str:
    if len(pairs) < 2:
        return "–"
    error = 1.25 * statistics.stdev(pairs) / len(pairs) ** 0.5
    return f"{statistics.median(pairs):.1%} ± {error:.1%}"


if __name__ == "__main__":
    main()
