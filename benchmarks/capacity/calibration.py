"""The few parameters of the model, from what was seen of one worker, alone and crowded.

Costs are processor time as the system counts it, which neighbours disturb less than the clock. Only how long it takes
to wake up, and what holds a worker up now and then, are found with the clock.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from benchmarks.capacity.simulation import Costs, Vary


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
class Stalls:
    """What holds a worker up beside its work: `rate` a second of its busy time, exponential, `mean` seconds long.

    Neighbours, the machine below a virtual one, the worker's own threads, its collector: nothing here tells them apart.
    """

    rate: float
    mean: float

    def vary(self, seed: int) -> Vary:
        """Adds them, at random moments, to what should take some seconds."""
        chance = random.Random(seed)
        if not self.rate or not self.mean:
            return lambda seconds: seconds

        def varied(seconds: float) -> float:
            took, left = seconds, seconds - chance.expovariate(self.rate)
            while left > 0:
                took += chance.expovariate(1 / self.mean)
                left -= chance.expovariate(self.rate)
            return took

        return varied


def stalls(alone: Load, crowded: Load) -> Stalls:
    """From how much longer than usual one request in a hundred took, where one waits and where `crowded.rate × p50` do.

    A stall longer than that holds up all who are under way: so rate × exp(−longer ÷ mean) of them a second make up a
    hundredth of all answers. Two equations, two unknowns.
    """
    lone, crowd = max(0.0, alone.p99 - alone.p50), max(0.0, crowded.p99 - crowded.p50)
    if crowd <= lone or not lone:
        return Stalls(0.0, 0.0)  # neither is such a thing
    enough_lone, enough_crowd = 0.01 * alone.rate, 0.01 / crowded.p50
    if enough_lone <= enough_crowd:
        return Stalls(0.0, 0.0)
    mean = (crowd - lone) / math.log(enough_lone / enough_crowd)
    return Stalls(enough_lone * math.exp(lone / mean), mean)
