"""Does a row get the same bits in any company? Checked on this machine, with this build, when a network is loaded.

The kernel's bits are independent of company by construction, and it is checked that it agrees with PyTorch. PyTorch
does not promise as much: a matrix product may choose its instructions by its number of rows. So row plans are tried
from the cheapest to the safest, and the first that holds is used. Knows nothing of queries or serving.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.architecture import Architecture
from models.features import Float32
from service.engine.evaluate import evaluate
from service.engine.kernel import binaries
from service.engine.kernel.program import knows
from service.engine.plan import Network, RowPlan, compile_network
from service.engine.query import Committee, Query
from service.engine.steps import Product

logger = logging.getLogger(__name__)

ORDERED = RowPlan("ordered")
CANDIDATES = (
    RowPlan("aligned", 8),
    RowPlan("aligned", 16),
    RowPlan("aligned", 32),
    RowPlan("fixed", 64),
)
_PROBES = 33  # rows of the end-to-end check; odd, so that every plan has to fill up
# How far kernel and PyTorch may be apart, beside the largest output: thousands of roundings.
_APART = 1e-4


def verified_network(
    architecture: Architecture, tensors: Mapping[str, Tensor], device: str = "cpu", *, kernel: bool = True
) -> Network:
    """A network compiled for the first way of evaluating it that holds: the kernel, then PyTorch's row plans.

    `kernel` False leaves the kernel out, as does a network with steps that it lacks. If none holds, the last candidate,
    unverified: its answers are right, its last bits may depend on company.
    """
    plain = compile_network(architecture, tensors, CANDIDATES[0], device)
    if kernel and device == "cpu" and knows(plain.steps) and binaries.load() is not None:
        ordered = compile_network(architecture, tensors, ORDERED)
        if _rows_invariant(ordered) and _samples_invariant(ordered) and _agree(ordered, plain):
            return replace(ordered, row_plan=replace(ORDERED, verified=True))
        logger.error("the kernel does not agree with PyTorch about a network, which will be evaluated by PyTorch")
    for plan in CANDIDATES:
        candidate = replace(plain, row_plan=plan)
        if all(holds(candidate) for holds in (_products_invariant, _rows_invariant, _samples_invariant)):
            return replace(plain, row_plan=replace(plan, verified=True))
    return replace(plain, row_plan=CANDIDATES[-1])


def _agree(one: Network, other: Network) -> bool:
    """Whether two compilations of a network give nearly the same, wherever they give numbers at all."""
    rows = _probe_rows(one)
    for committee in (None, Committee(seed=4, samples=3, first_sample=5), Committee(seed=4, samples=3, p=0.5)):
        ours, theirs = (evaluate(network, Query(rows, committee)) for network in (one, other))
        both = np.isfinite(ours) & np.isfinite(theirs)
        if np.abs(ours[both] - theirs[both]).max(initial=0.0) > _APART * np.abs(theirs[both]).max(initial=1.0):
            return False
    return True


def _products_invariant(network: Network) -> bool:
    """Each product on its own, over the sizes it can meet and at different places."""
    plan = network.row_plan
    most = network.pairs_per_tile
    parts = (most // 16, most // 8, most // 4, most // 2, most * 3 // 4, most)
    sizes = {plan.padded(size) for size in (*range(plan.rows, min(most, 128) + 1, plan.rows), *parts)}
    random = np.random.Generator(np.random.Philox(0))
    # One of each shape, for it is by sizes that PyTorch chooses instructions. A stack has the same in every block.
    shapes = {(step.weight.shape, step.times): step for step in network.steps if isinstance(step, Product)}
    for step in shapes.values():
        weight, bias = step.weight, step.bias
        rows = torch.from_numpy(random.standard_normal((most * step.times, weight.shape[0]), np.float32))
        rows = rows.to(weight.device)
        together = torch.addmm(bias, rows, weight)
        rolled = torch.addmm(bias, rows.roll(1, 0), weight).roll(-1, 0)
        if not torch.equal(together, rolled):
            return False
        vectors = (size * step.times for size in sorted(sizes))
        if any(not torch.equal(torch.addmm(bias, rows[:size], weight), together[:size]) for size in vectors):
            return False
    return True


def _rows_invariant(network: Network) -> bool:
    """The whole network, rows alone against rows in company, full and sampled."""
    rows = _probe_rows(network)
    for committee in (None, Committee(seed=1, samples=3, first_sample=2, p=0.5)):
        together = evaluate(network, Query(rows, committee))
        for start, stop in ((0, 1), (7, 8), (_PROBES - 1, _PROBES), (3, 16)):
            alone = evaluate(network, Query(rows[start:stop], committee))
            if not np.array_equal(alone, together[:, start:stop], equal_nan=True):
                return False
    return True


def _samples_invariant(network: Network) -> bool:
    """Single rows: samples alone against samples in company."""
    for row in _probe_rows(network)[:8, None]:
        together = evaluate(network, Query(row, Committee(seed=2, samples=_PROBES)))
        for first, samples in ((0, 1), (5, 9), (_PROBES - 1, 1)):
            alone = evaluate(network, Query(row, Committee(seed=2, samples=samples, first_sample=first)))
            if not np.array_equal(alone, together[first : first + samples], equal_nan=True):
                return False
    return True


def _probe_rows(network: Network) -> Float32:
    random = np.random.Generator(np.random.Philox(1))
    return random.standard_normal((_PROBES, network.inputs), np.float32)
