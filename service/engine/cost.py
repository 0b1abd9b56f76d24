"""About what a query costs, from its size and the network alone.

For admission, Retry-After and the choice between event loop and engine threads: where it is off, an estimate suffers,
never an answer. The constants are fitted by `python -m benchmarks.cost`. Knows nothing of how a query is evaluated.
"""

from __future__ import annotations

from service.engine.plan import Cut, Network

# Nanoseconds of one core with AVX2, by the kernel.
_MULTIPLY_ADD = 0.018  # of a dense product: ReLU makes about half of its inputs zero
_LANE = 1.9  # a unit's random bits, and what becomes of it in a sample
_SUMMARISED = 50.0  # a draw of one output
_QUERY = 60_000.0  # what any query takes besides


# Floating-point operations that take about half a millisecond.
_DEAR_FLOPS = 40_000_000


def is_dear(network: Network, pairs: int) -> bool:
    """Whether so many pairs of row and sample take much longer than all around them; told sooner than `seconds`."""
    return pairs * network.flops_per_row >= _DEAR_FLOPS


def seconds(
    network: Network, cut: Cut, rows: int, samples: int, *, earlier: int = 0, members: int = 1, told: bool = True
) -> float:
    """About how long one core takes for this many rows, sampled or (`cut` without sites) not.

    `earlier` samples have been evaluated before and are summarised with these; `members` networks take turns. Without
    `told` nothing is summarised.
    """
    shared = (network.flops_per_row / 2 - cut.work) * rows * members * _MULTIPLY_ADD
    if not cut.after:
        return (shared + _QUERY) * 1e-9
    evaluated = samples * (rows * cut.work * _MULTIPLY_ADD + network.lanes * _LANE)
    summarised = (earlier + samples) * rows * network.outputs * _SUMMARISED if told else 0.0
    return (shared + evaluated + summarised + _QUERY) * 1e-9
