"""How much the service can take: measured, simulated, and carried to loads that nobody here can make.

    python -m benchmarks.capacity           about four minutes; writes its section of benchmarks/RESULTS.md
    python -m benchmarks.capacity --quick   one round; writes nothing

docs/scale.md says what the model is and what follows from it. Needs wrk and two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from benchmarks import load
from benchmarks.capacity.foretelling import Model, calibrate, plan
from benchmarks.capacity.measuring import CLOSED, CROWDED, JOBS, Measured, Point, TooFewCores, measure
from benchmarks.capacity.simulation import Seen
from benchmarks.jobs import Job
from benchmarks.load import NoWrk, Refused
from benchmarks.report import figure, table, write_section
from benchmarks.servers import Unavailable, bounded
from benchmarks.timing import machine

BUDGET, SECONDS = 150.0, 1.0
QUIET = 0.05  # of the machine's time, taken by others
AIM = 0.15
BUSY = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
RATES = (10, 1_000, 100_000)
MAY_BE_BUSY = 0.7
PRICE = 0.04  # of a core-hour, in any currency: an example
_ABOUT = """\
One row of S (13 → 50 → 50 → 1): a prediction, and a hundred samples with a new seed each. One worker has a core of its
own, the load the other; two workers share both with it. Closed loops are wrk's, with so many connections; open loops
are Poisson arrivals. Times in ms; figures are medians over the quieter half of the rounds. *Others* is what neighbours
took of the machine's time meanwhile: the model knows of no neighbours."""
_PARAMETERS = """\
µs of a core: `service = request + company ÷ (requests evaluated together)`, by processor time, from 1 and from
{crowded} connections; *found* in the cache; *bytes* of an answer. Waking up is what is left of a lone request's time.
*Stalls* hold a worker up beside its work: so many a second of its busy time, of so many ms on average, from how much
longer one request in a hundred took at those two."""
_BUSY_NOTE = """\
Simulated, one worker, open loop. *Busy* is the load as a share of what a worker answers in full company; its core is
busy for more of its time, since company is smaller where less arrives, and stalls take their part."""
_PLANS_NOTE = """\
Workers so that none has to answer more than {busy:.0%} of what it can in full company; with half of the answers found
in the cache; core-hours for a million answers, idle time included, and their price at {price} a core-hour, which is an
example."""


def main() -> None:
    """Measures, simulates, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round; writes nothing")
    given = parser.parse_args()
    try:
        with bounded(minutes=10):
            measured = measure(0 if given.quick else BUDGET, SECONDS)
            text = section(measured, load.version())
    except (NoWrk, TooFewCores, Refused, Unavailable) as error:
        sys.exit(str(error))
    print("\n" + text)
    if not given.quick:
        write_section("capacity", text)


def section(measured: Measured, client: str) -> str:
    """The whole section, Markdown."""
    models = {job.name: calibrate(measured, job.name) for job in JOBS}
    compared = [row for job in JOBS for row in _compared(measured, models[job.name], job)]
    return "\n\n".join(
        [
            "## Capacity",
            f"{machine()}; {client}.",
            _ABOUT,
            _compared_table(compared),
            _summary(compared),
            "### The parameters",
            _PARAMETERS.format(crowded=CROWDED),
            _parameters(measured, models),
            "### How busy a worker may be",
            _BUSY_NOTE,
            _busy(models),
            "### What a load needs",
            _PLANS_NOTE.format(busy=MAY_BE_BUSY, price=PRICE),
            _plans(models),
        ]
    )


class Compared:
    """One point: what was measured and what was foretold, each as answers a second, p50 and p99 in seconds."""

    def __init__(self, title: str, load_: str, measured: Sequence[float], foretold: Seen, others: float) -> None:
        self.title, self.load, self.others = title, load_, others
        self.measured = measured
        self.foretold = (foretold.rate, foretold.percentile(50), foretold.percentile(99))

    @property
    def off(self) -> tuple[float, ...]:
        """Foretold over measured, less 1."""
        return tuple(told / seen - 1 for told, seen in zip(self.foretold, self.measured, strict=True))


def _compared(measured: Measured, model: Model, job: Job) -> Iterator[Compared]:
    # The slowest arrivals are those that the waking up was found with.
    points = [Point(job.name, workers, connections) for workers, connections in CLOSED]
    for point in [*points, *measured.arrivals(job.name)[1:]]:
        seen = measured.median(point)
        asked = f"{point.connections} conn." if point.connections else f"{point.rate:,.0f}/s"
        title = f"`{'sample' if job.samples else 'predict'}`, {point.workers} worker{'s' if point.workers > 1 else ''}"
        yield Compared(title, asked, (seen.rate, seen.p50, seen.p99), model.foretell(point), seen.others)


def _compared_table(compared: Sequence[Compared]) -> str:
    header = ["job", "load", "others"]
    header += [f"{what}{which}" for what in ("rate", "p50", "p99") for which in ("", ", foretold", ", off")]
    rows = []
    for each in compared:
        cells = [each.title, each.load, f"{each.others:.0%}"]
        for told, seen, off, scale in zip(each.foretold, each.measured, each.off, (1, 1e3, 1e3), strict=True):
            cells += [figure(seen * scale), figure(told * scale), f"{off:+.0%}"]
        rows.append(cells)
    return table(header, rows)


def _summary(compared: Sequence[Compared]) -> str:
    def line(which: str, points: Sequence[Compared]) -> str:
        within = [sum(abs(each.off[what]) <= AIM for each in points) for what in range(3)]
        return f"- {which}: {len(points)} points, of which rate {within[0]}, p50 {within[1]}, p99 {within[2]}"

    quiet = [each for each in compared if each.others <= QUIET]
    title = f"Within {AIM:.0%} of what was measured:"
    return "\n".join([title, "", line("all", compared), line(f"others took {QUIET:.0%} or less", quiet)])


def _parameters(measured: Measured, models: dict[str, Model]) -> str:
    header = [
        "job",
        "request",
        "company",
        "most together",
        "wrk",
        "waking up",
        "the same, open loop",
        "found",
        "stalls",
        "ms",
        "bytes",
    ]
    rows = []
    for name, model in models.items():
        costs = model.costs
        times = (model.caller, model.wake, model.wake_opened, model.found)
        cells = [figure(costs.request * 1e6), figure(costs.company * 1e6), str(costs.most)]
        cells += [figure(None if each is None else each * 1e6) for each in times]
        cells += [figure(model.stalls.rate), figure(model.stalls.mean * 1e3)]
        rows.append([name, *cells, str(measured.lengths[name])])
    return table(header, rows)


def _busy(models: dict[str, Model]) -> str:
    header = ["busy", *(f"{name}: {what}" for name in models for what in ("rate", "p50", "p99", "in company"))]
    rows = []
    for share in BUSY:
        cells = [f"{share:.0%}"]
        for name, model in models.items():
            seen = model.foretell(Point(name, 1, rate=share * model.most))
            times = (seen.percentile(50) * 1e3, seen.percentile(99) * 1e3)
            cells += [figure(seen.rate), *map(figure, times), figure(seen.company)]
        rows.append(cells)
    return table(header, rows)


def _plans(models: dict[str, Model]) -> str:
    rows = []
    for name, model in models.items():
        for rate in RATES:
            without = plan(1 / model.most, rate, MAY_BE_BUSY)
            cells = [f"{name}, {rate:,}/s", figure(without.busy), str(without.workers)]
            if model.found is None:
                cells.append("–")
            else:
                cells.append(str(plan(1 / model.most, rate, MAY_BE_BUSY, 0.5, model.found).workers))
            rows.append([*cells, figure(without.core_hours), figure(without.core_hours * PRICE)])
    return table(["load", "cores busy", "workers", "half found", "core-hours a million", "price a million"], rows)


if __name__ == "__main__":
    main()
