"""How far the uncertainty of recent traffic has moved from that of the validation rows: counts by period, and an index.

The population stability index is the symmetrised Kullback–Leibler divergence of two distributions over the same bins,
Σ (q − p) ln(q / p) (Lewis 1994; its distribution by chance: Yurdakul & Naranjo 2020). A half is added to every count,
so that no empty bin makes it infinite. Knows nothing of where counts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from models.manifest import Distribution

# The window: the period that is running, and those before it.
PERIODS, PERIOD_SECONDS = 12, 300
# Below this many values there is nothing to be seen but chance.
LEAST_VALUES = 200


def window_size(bins: int) -> int:
    """Numbers that a window takes: for each period which one it is, and a count for each bin."""
    return PERIODS * (1 + bins)


def period_of(seconds: float) -> float:
    """The number of the period that a time belongs to; never 0."""
    return seconds // PERIOD_SECONDS + 1.0


def bins_of(window: memoryview[float], bins: int, period: float) -> memoryview[float]:
    """A period's bins in a window; what was there of a period long past is cleared."""
    start = int(period) % PERIODS * (1 + bins)
    if window[start] != period:
        window[start] = 0.0  # nobody's counts, while they are neither the old nor the new
        for each in range(start + 1, start + 1 + bins):
            window[each] = 0.0
        window[start] = period
    return window[start + 1 : start + 1 + bins]


def recent(windows: Iterable[Sequence[float]], bins: int, period: float) -> list[float]:
    """The counts of each bin in all windows together, over the last PERIODS periods."""
    counts = [0.0] * bins
    for window in windows:
        for start in range(0, window_size(bins), 1 + bins):
            if period - PERIODS < window[start] <= period:
                for each in range(bins):
                    counts[each] += window[start + 1 + each]
    return counts


def index(expected: Distribution, values: int, counts: Sequence[float]) -> float:
    """The population stability index of counts against a distribution that was made of so many values."""
    bins, total = len(counts), sum(counts)
    found = 0.0
    for share, count in zip(expected.shares, counts, strict=True):
        p = (share * values + 0.5) / (values + 0.5 * bins)
        q = (count + 0.5) / (total + 0.5 * bins)
        found += (q - p) * math.log(q / p)
    return found


def chance(values: int, counts: Sequence[float]) -> float:
    """What the index is on average where nothing has drifted: (bins − 1) (1 / values + 1 / counted)."""
    return (len(counts) - 1) * (1.0 / values + 1.0 / sum(counts))
