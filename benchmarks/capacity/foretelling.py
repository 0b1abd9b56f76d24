"""What the model says: of points that were measured, and of loads that nobody here can make.

A service with so many requests a second needs `rate × (1 − hits) × seconds(company)` cores for what is computed, and
`rate × hits × found` for what is found in the cache; divided by the share of its time that a worker may be busy for
answers to come in time. Costs are those of one core; nothing here knows of networks, proxies or Redis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.capacity.calibration import Stalls, fit, stalls, wake
from benchmarks.capacity.measuring import ALONE, CROWDED, LONE_RATE, Measured, Point
from benchmarks.capacity.simulation import Costs, Scene, Seen, closed, opened

SECONDS = 4.0  # simulated
SEED = 1


@dataclass(frozen=True, slots=True)
class Model:
    """A job's costs, and how soon those who are asked wake up: for wrk, which sleeps as well, and for the open loop."""

    costs: Costs
    caller: float
    wake: float
    wake_opened: float
    found: float | None  # seconds of a core for an answer that is found in the cache
    stalls: Stalls

    def foretell(self, point: Point, seconds: float = SECONDS) -> Seen:
        """Simulates a point."""
        if point.connections:
            scene = Scene(point.workers, 2, self.wake, self.caller, self.stalls.vary(SEED), SEED)
            return closed(self.costs, scene, point.connections, seconds)
        # The load has a core of its own, which is always busy and needs no simulation.
        return opened(
            self.costs,
            Scene(point.workers, point.workers, self.wake_opened, 0, self.stalls.vary(SEED), SEED),
            point.rate,
            seconds,
        )

    @property
    def most(self) -> float:
        """Answers a second of one worker that is never idle, each evaluation with all that may share one."""
        return 1 / self.costs.seconds(min(self.costs.most, CROWDED))


def calibrate(measured: Measured, job: str) -> Model:
    """From one worker alone and crowded; nothing else that was measured is looked at."""
    alone, crowded = (measured.median(Point(job, 1, connections)) for connections in (ALONE, CROWDED))
    costs = fit(alone, crowded, measured.most[job])
    lone = measured.median(Point(job, 1, rate=LONE_RATE))
    again = Point(job, 1, CROWDED, repeated=True)
    return Model(
        costs,
        crowded.client,
        wake(costs, alone),
        max(0.0, lone.p50 - costs.seconds(1)),
        measured.median(again).service if again in measured.loads else None,
        stalls(alone, crowded),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load needs: cores that are busy, workers so that none is too busy, core-hours for a million answers."""

    busy: float
    workers: int
    core_hours: float


def plan(seconds: float, rate: float, busy: float, hits: float = 0.0, found: float = 0.0) -> Plan:
    """For `rate` answers a second of `seconds` of a core each, where a worker may be `busy` for that share of its time.

    A share of `hits` is found in the cache, for `found` seconds each. What is paid for are whole workers, idle or not;
    a million answers therefore cost more where there are few.
    """
    if not (0 < busy <= 1 and 0 <= hits <= 1 and seconds > 0 and rate > 0):
        raise ValueError("busy is in (0, 1], hits in [0, 1], seconds and rate above 0")
    cores = rate * ((1 - hits) * seconds + hits * found)
    workers = max(1, math.ceil(cores / busy))
    return Plan(cores, workers, workers / rate * 1e6 / 3600)
