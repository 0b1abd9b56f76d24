"""How long small requests take alone, and beside a large one: 100,000 samples of W, always one of them in flight.

Knows nothing of floors.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from benchmarks.jobs import Job, ours
from benchmarks.load import Burst, ask, burst
from benchmarks.rounds import Contender, Results

LONG = Job("long", "W", 1, samples=100_000)
SMALL = Job("sample-S-1", "S", 1)
ALONE, BESIDE = "alone", "beside-long"
CONNECTIONS = (8, 32)


class _Company(threading.Thread):
    """Asks for one large request after another; at the end waits for the last."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.over, self.answered = port, threading.Event(), 0
        self.error: Exception | None = None

    def run(self) -> None:
        spelling = ours(LONG)
        try:
            while not self.over.is_set():
                ask(self.port, spelling)
                self.answered += 1
        except Exception as error:  # noqa: BLE001  # said by the thread that waits
            self.error = error


def measure_beside(results: Results, contender: Contender, seconds: float, number: int) -> None:
    """One round: bursts of small requests alone and beside a large one, in turns."""
    contender.server.resume()
    try:
        for connections in CONNECTIONS:
            for job in (ALONE, BESIDE):
                seen, large = _burst(contender.server.port, connections, seconds, company=job is BESIDE)
                place = {"contender": contender.name, "job": job, "connections": connections, "round": number}
                results.bursts.append({**place, **seen.record(), "large": large})
                print(
                    f"  {number}  S {job:<12} {connections:>3} × {contender.name:<22} {seen.rate:>9.1f}/s"
                    f"   p50 {seen.p50:>8.2f} ms   p99 {seen.p99:>8.2f} ms   {large} large answered",
                    flush=True,
                )
    finally:
        contender.server.pause()


def _burst(port: int, connections: int, seconds: float, *, company: bool) -> tuple[Burst, int]:
    if not company:
        return burst(port, ours(SMALL), connections, seconds), 0
    large = _Company(port)
    large.start()
    try:
        seen = burst(port, ours(SMALL), connections, seconds)
    finally:
        large.over.set()
        large.join()
    if large.error:
        raise large.error
    return (seen, large.answered) if large.answered else (replace(seen, failures=seen.failures + 1), 0)
