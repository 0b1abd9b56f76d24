"""The few parameters of the model, from what was seen of one worker; and what the machine takes away.

Costs are processor time as the system counts it, which neighbours disturb less than the clock. Only how long it takes
to wake up is found with the clock, from a lone connection.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.capacity.simulation import Costs, Vary

# What a loop that only looks at the clock does not see as an interruption.
SHORTEST_GAP = 30e-6


@dataclass(frozen=True, slots=True)
class Load:
    """What a burst came to: answers per second, seconds each took, and what each request cost.

    `service` and `client`: seconds of a core for each request; `company`: requests evaluated together, on average;
    `others`: the share of the machine's time that was neither idle nor theirs.
    """

    rate: float
    p50: float
    p99: float
    service: float
    client: float
    company: float
    others: float = 0.0


def fit(alone: Load, crowded: Load, most: int) -> Costs:
    """Two equations, service = request + company ÷ requests in it, for its two unknowns."""
    company = max(0.0, (alone.service - crowded.service) / (1 / alone.company - 1 / crowded.company))
    request = alone.service - company / alone.company
    return Costs(company, request / 2, request / 2, most)


def wake(costs: Costs, alone: Load) -> float:
    """What is left of a lone request's time, for client and worker have to wake up for it, one after the other."""
    return max(0.0, (alone.p50 - costs.seconds(alone.company) - alone.client) / 2)


@dataclass(frozen=True, slots=True)
class Interruptions:
    """Gaps in the time that a busy process gets, in seconds, while it got `seconds`."""

    gaps: Sequence[float]
    seconds: float

    @property
    def lost(self) -> float:
        """The fraction of the time that others had."""
        lost = sum(self.gaps)
        return lost / (lost + self.seconds)

    def vary(self, seed: int) -> Vary:
        """Adds gaps to what should take some seconds: as many and as long as were seen, at random moments."""
        chance, gaps = random.Random(seed), self.gaps
        every = self.seconds / len(gaps) if gaps else 0.0

        def varied(seconds: float) -> float:
            if not gaps:
                return seconds
            took, left = seconds, seconds - chance.expovariate(1 / every)
            while left > 0:
                took += chance.choice(gaps)
                left -= chance.expovariate(1 / every)
            return took

        return varied


def observe(seconds: float) -> Interruptions:
    """Looks at the clock for some seconds, on the core that this process is bound to, and notes when it could not."""
    gaps, began = [], time.perf_counter()
    last, end = began, began + seconds
    while last < end:
        now = time.perf_counter()
        if now - last > SHORTEST_GAP:
            gaps.append(now - last)
        last = now
    return Interruptions(gaps, max(1e-9, last - began - sum(gaps)))


def together(parts: Sequence[Interruptions]) -> Interruptions:
    """What was seen at several times."""
    return Interruptions([gap for part in parts for gap in part.gaps], sum(part.seconds for part in parts))
