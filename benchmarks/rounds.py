"""Rounds in which contenders take turns, cell by cell; and the medians of what was seen.

A cell is a job at one concurrency. While one contender is measured the others stand still. What goes wrong is written
down, and the rest goes on. Knows nothing of tables.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gemm import Floor
from benchmarks.jobs import Job, Speaker
from benchmarks.load import Refused, burst
from benchmarks.servers import Server
from benchmarks.store import SPECS

GEMM_SECONDS = 0.6


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server, the language it is spoken to in, the jobs it takes part in, and how long a burst is of use."""

    name: str
    server: Server
    speak: Speaker
    takes: Callable[[Job], bool] = lambda _: True
    most_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Cell:
    """A job at one concurrency, in bursts of some seconds."""

    job: Job
    connections: int
    seconds: float


@dataclass(slots=True)
class Results:
    """Everything that was seen, as it goes to the raw file: `facts` are said once, `bursts` and `gemm` every round."""

    facts: dict[str, Any] = field(default_factory=dict)
    bursts: list[dict[str, Any]] = field(default_factory=list)
    gemm: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def median(self, contender: str, job: str, connections: int, what: str) -> float | None:
        """Over the rounds, of bursts in which nothing failed; None where there is none."""
        return _median(
            seen[what]
            for seen in self.bursts
            if (seen["contender"], seen["job"], seen["connections"]) == (contender, job, connections)
            and not seen["failures"]
            and seen["answers"]
        )

    def gemm_rate(self, job: Job) -> float | None:
        """Requests per second if there were only matrix products."""
        key = [*SPECS[job.model].hidden, job.rows, job.samples]
        return _median(seen["rate"] for seen in self.gemm if seen["key"] == key)

    def save(self, path: Path) -> None:
        """As JSON."""
        parts = {"facts": self.facts, "bursts": self.bursts, "gemm": self.gemm, "complaints": self.complaints}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(parts, indent=1))

    @classmethod
    def load(cls, path: Path) -> Results:
        """What `save` wrote."""
        return cls(**json.loads(path.read_text()))


def cells(jobs: Iterable[Job], scale: float = 1.0) -> list[Cell]:
    """Every job at each of its concurrencies: the highest, by which it is judged, for longer, slow jobs longest."""
    found = []
    for job in jobs:
        for connections in job.connections:
            seconds = 4.0 if job.slow and job.model != "S" else 2.0 if connections == max(job.connections) else 1.0
            found.append(Cell(job, connections, seconds * scale))
    return found


def measure(results: Results, contenders: Sequence[Contender], cells: Sequence[Cell], number: int) -> None:
    """One round: every cell, every contender. All are paused before and after."""
    for cell in cells:
        for contender in contenders:
            if contender.takes(cell.job):
                _turn(results, contender, cell, number)


def measure_gemm(results: Results, floor: Floor, jobs: Iterable[Job], seconds: float = GEMM_SECONDS) -> None:
    """One round of the GEMM floor: each different set of products once."""
    shapes = {(SPECS[job.model].hidden, job.rows, job.samples): SPECS[job.model] for job in jobs}
    for (hidden, rows, samples), spec in shapes.items():
        rate = floor.rate([spec.inputs, *hidden, spec.head.width], rows, samples, seconds)
        results.gemm.append({"key": [*hidden, rows, samples], "rate": rate})


def _turn(results: Results, contender: Contender, cell: Cell, number: int) -> None:
    job = cell.job
    place = {"contender": contender.name, "job": job.name, "connections": cell.connections, "round": number}
    seconds = min(cell.seconds, contender.most_seconds)
    contender.server.resume()
    try:
        seen = burst(contender.server.port, contender.speak(job), cell.connections, seconds, slow=job.slow)
    except (Refused, OSError, RuntimeError, subprocess.SubprocessError) as error:
        results.complaints.append(f"{contender.name}, {job.name}, {cell.connections} connections: {error}")
        print("     ", results.complaints[-1], flush=True)
        return
    finally:
        # A request whose client is gone may still be computed, and would be a burden on the next contender.
        if job.model != "S" or job.slow:
            contender.server.settle()
        contender.server.pause()
    results.bursts.append({**place, **seen.record()})
    if seen.failures:
        results.complaints.append(
            f"{contender.name}, {job.name}, {cell.connections} connections: "
            f"{seen.failures} of {seen.answers} requests failed"
        )
    print(
        f"  {time.strftime('%H:%M:%S')} {number}  {job.name:<22} {cell.connections:>3} × {contender.name:<22} "
        f"{seen.rate:>9.1f}/s   p50 {seen.p50:>8.2f} ms   p99 {seen.p99:>8.2f} ms"
        + (f"   {seen.failures} FAILED" if seen.failures else ""),
        flush=True,
    )


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return statistics.median(listed) if listed else None
