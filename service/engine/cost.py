"""What a query costs, and which way of evaluating it is the cheapest: judged by its rows and the network alone.

Never by its number of samples or by company: the way is part of an answer's last bits. The constants are measurements
of single steps on one core with AVX2 (docs/decisions/0005); where they are off, speed suffers, never an answer. Knows
nothing of how the ways work.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from service.engine.plan import Cut, Network

# tiles: all units, any queries together · row: one wide row · thinned: each sample's kept units alone.
Way: TypeAlias = Literal["tiles", "row", "thinned"]

# Nanoseconds of one core.
_MULTIPLY_ADD = 0.029
_GATHERED = 0.8  # a number of a weight that is copied out for one sample
_TOUCHED = 0.6  # a number of an activation: function, mask
_LANE = 0.45  # a unit's random bits
_CALL = 6000.0  # a step on its own
_SUMMARISED = 20.0  # a draw of one output
_QUERY = 20_000.0  # what any query takes besides
# How much cheaper a way must look: the estimate may be that far off.
_WORTH = 0.9
# A single row has a way of its own where its first sampled product has this many weights.
_WIDE = 1 << 16


def way(network: Network, cut: Cut, rows: int) -> Way:
    """The way to evaluate this many rows."""
    if not cut.after or not network.on_cpu:
        return "tiles"
    if rows == 1 and network.row_plan.kind == "aligned" and cut.first_weights >= _WIDE:
        return "row"
    if network.may_thin and cut.thinned_work is not None:
        thinned = cut.thinned_work * (rows * _MULTIPLY_ADD + _GATHERED) + len(cut.after) * _CALL
        if thinned < _WORTH * rows * cut.work * _MULTIPLY_ADD:
            return "thinned"
    return "tiles"


def seconds(network: Network, cut: Cut, rows: int, samples: int) -> float:
    """About how long one core takes for this many rows, sampled or (`cut` without sites) not."""
    prefix = network.flops_per_row / 2 - cut.work
    shared = prefix * network.row_plan.padded(rows) * _MULTIPLY_ADD
    if not cut.after:
        return (shared + _QUERY) * 1e-9
    lanes = network.lanes
    pair = cut.work * _MULTIPLY_ADD + lanes * _TOUCHED + network.outputs * _SUMMARISED
    return (shared + samples * (rows * pair + lanes * _LANE) + _QUERY) * 1e-9
