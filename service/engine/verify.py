"""Does a row get the same bits in any company? Checked on this machine, with this build, when a network is loaded.

PyTorch does not promise it: a matrix product may choose its kernel by its number of rows. So row plans are tried
from the cheapest to the safest, and the first that holds is used. Knows nothing of queries or serving.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.features import Float32
from service.engine.evaluate import evaluate
from service.engine.plan import Network, Product, RowPlan
from service.engine.query import Committee, Query
from service.engine.thinned import ROWS

CANDIDATES = (
    RowPlan("aligned", 8),
    RowPlan("aligned", 16),
    RowPlan("aligned", 32),
    RowPlan("fixed", 64),
)
_WORTH_THINNING = 128  # width; narrower networks gain nothing
_PROBES = 33  # rows of the end-to-end check; odd, so that every plan has to fill up


def with_verified_plan(network: Network) -> Network:
    """The network with the first row plan under which no product's bits depend on company.

    If none holds, the last candidate, unverified: its answers are right, its last bits may depend on company.
    """
    for plan in CANDIDATES:
        candidate = replace(network, row_plan=plan)
        if all(holds(candidate) for holds in (_products_invariant, _rows_invariant, _samples_invariant)):
            verified = replace(network, row_plan=replace(plan, verified=True))
            return replace(verified, may_thin=_places_invariant(verified))
    return replace(network, row_plan=CANDIDATES[-1])


def _products_invariant(network: Network) -> bool:
    """Each product on its own, over the sizes it can meet and at different places."""
    plan = network.row_plan
    most = network.pairs_per_tile
    parts = (most // 16, most // 8, most // 4, most // 2, most * 3 // 4, most)
    sizes = {plan.padded(size) for size in (*range(plan.rows, min(most, 128) + 1, plan.rows), *parts)}
    random = np.random.Generator(np.random.Philox(0))
    for weight, bias in {(id(s.weight)): (s.weight, s.bias) for s in network.steps if isinstance(s, Product)}.values():
        rows = torch.from_numpy(random.standard_normal((most, weight.shape[0]), np.float32)).to(weight.device)
        together = torch.addmm(bias, rows, weight)
        rolled = torch.addmm(bias, rows.roll(1, 0), weight).roll(-1, 0)
        if not torch.equal(together, rolled):
            return False
        if any(not torch.equal(torch.addmm(bias, rows[:size], weight), together[:size]) for size in sorted(sizes)):
            return False
    return True


def _rows_invariant(network: Network) -> bool:
    """The whole network, rows alone against rows in company, full and sampled."""
    rows = _probe_rows(network)
    for committee in (None, Committee(seed=1, samples=3, first_sample=2, p=0.5)):
        together = evaluate(network, Query(rows, committee), way="tiles")
        for start, stop in ((0, 1), (7, 8), (_PROBES - 1, _PROBES), (3, 16)):
            alone = evaluate(network, Query(rows[start:stop], committee), way="tiles")
            if not np.array_equal(alone, together[:, start:stop]):
                return False
    return True


def _samples_invariant(network: Network) -> bool:
    """Single rows, whose products have a size of their own: samples alone against samples in company."""
    for row in _probe_rows(network)[:8, None]:
        together = evaluate(network, Query(row, Committee(seed=2, samples=_PROBES)))
        for first, samples in ((0, 1), (5, 9), (_PROBES - 1, 1)):
            alone = evaluate(network, Query(row, Committee(seed=2, samples=samples, first_sample=first)))
            if not np.array_equal(alone, together[first : first + samples]):
                return False
    return True


def _places_invariant(network: Network) -> bool:
    """Rows in another order, where each sample has weights of its own: a row keeps its bits at another place."""
    if network.cut(0.5).thinned_work is None or network.widest < _WORTH_THINNING:
        return False
    # More than one product takes, so that rows move between a full product and the rest.
    rows, committee = np.resize(_probe_rows(network), (ROWS + 40, network.inputs)), Committee(seed=3, samples=1, p=0.5)
    order = np.random.Generator(np.random.Philox(2)).permutation(len(rows))
    placed = evaluate(network, Query(rows, committee), way="thinned")
    return np.array_equal(placed[:, order], evaluate(network, Query(rows[order], committee), way="thinned"))


def _probe_rows(network: Network) -> Float32:
    random = np.random.Generator(np.random.Philox(1))
    return random.standard_normal((_PROBES, network.inputs), np.float32)
