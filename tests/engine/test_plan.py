"""Compilation: what is folded, filled up and left out; and that company is checked, not assumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.engine import evaluate as evaluate_module
from service.engine import reference, verify
from service.engine.evaluate import Evaluation, evaluate
from service.engine.plan import LANES, PIECE_FLOPS, Drop, Normalise, Product, RowPlan
from service.engine.query import Committee, Query
from tests.networks import ClassificationHead, Mlp, RegressionHead, compiled, module_of, rows_of

SPEC = Mlp(inputs=13, hidden=(50, 50), dropout=(0.0, 0.4), norm="batch", head=ClassificationHead(classes=3))


def test_batch_normalisation_is_folded_away() -> None:
    """A network with batch normalisation compiles to products, activations and dropout alone."""
    network = compiled(SPEC, module_of(SPEC))
    assert sum(isinstance(step, Product) for step in network.steps) == 3
    assert not any(isinstance(step, Normalise) for step in network.steps)


def test_every_width_is_a_multiple_of_the_lanes() -> None:
    """Products are filled up with zero columns, which stay zero."""
    network = compiled(SPEC, module_of(SPEC))
    for step in network.steps:
        if isinstance(step, Product):
            assert all(width % LANES == 0 for width in step.weight.shape)
    assert not network.steps[0].weight[13:].any()
    assert not network.steps[0].weight[:, 50:].any()


def test_the_prefix_ends_at_the_first_active_site() -> None:
    """Sites with p = 0 belong to the prefix; a what-if moves its end."""
    network = compiled(SPEC, module_of(SPEC))
    sites = [place for place, step in enumerate(network.steps) if isinstance(step, Drop)]
    assert len(network.cut(None).before) == sites[1]
    assert len(network.cut(0.2).before) == sites[0]
    assert network.cut(0.0).after == ()


def test_a_plan_is_verified_when_a_network_is_loaded() -> None:
    """On this machine some plan holds, and the network says which."""
    assert compiled(SPEC, module_of(SPEC)).row_plan.verified


def test_a_plan_that_does_not_hold_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where products depend on their number of rows, verification falls back to one fixed shape."""
    network = compiled(SPEC, module_of(SPEC))
    addmm = torch.addmm

    def fickle(
        bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0
    ) -> torch.Tensor:
        # A kernel that sums in another order unless there are exactly 64 rows: what PyTorch warns of.
        result = addmm(bias, x, weight, out=out, alpha=alpha)
        return result if len(x) == 64 else result.mul_(1 + 2**-20 * (len(x) % 5))

    monkeypatch.setattr(torch, "addmm", fickle)
    found = verify.with_verified_plan(network).row_plan
    assert found == RowPlan("fixed", 64, verified=True)


def test_no_plan_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even one shape repeats itself at every place, the network is marked unverified."""
    network = compiled(SPEC, module_of(SPEC))
    addmm = torch.addmm

    def worse(
        bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0
    ) -> torch.Tensor:
        return addmm(bias, x, weight, out=out, alpha=alpha).mul_(1 + 2**-20 * torch.arange(len(x))[:, None])

    monkeypatch.setattr(torch, "addmm", worse)
    assert not verify.with_verified_plan(network).row_plan.verified


@pytest.mark.parametrize("plan", verify.CANDIDATES)
@pytest.mark.parametrize(("rows", "samples"), [(1, 5), (17, 9), (200, 3)])
def test_every_plan_gives_the_right_answer(plan: RowPlan, rows: int, samples: int) -> None:
    """Aligned or fixed, an evaluation agrees with the reference."""
    module = module_of(SPEC)
    network = compiled(SPEC, module, plan=plan)
    query = Query(rows_of(rows, 13), Committee(4, samples))
    expected = reference.evaluate(module, network.site_widths, query)
    np.testing.assert_allclose(evaluate(network, query), expected, rtol=1e-5, atol=2e-5)


def test_a_fixed_plan_never_makes_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the fixed plan every product has exactly its number of rows, in prefix and tiles."""
    network = replace(compiled(SPEC, module_of(SPEC)), row_plan=RowPlan("fixed", 64))
    shapes = set()
    addmm = torch.addmm

    def watched(
        bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, alpha: float
    ) -> torch.Tensor:
        shapes.add(len(x))
        return addmm(bias, x, weight, out=out, alpha=alpha)

    monkeypatch.setattr(evaluate_module.torch, "addmm", watched)
    for rows, samples in ((1, 100), (63, 2), (64, 2), (65, 2), (300, 3)):
        evaluate(network, Query(rows_of(rows, 13), Committee(1, samples)))
        evaluate(network, Query(rows_of(rows, 13)))
    assert shapes == {64}


@pytest.mark.parametrize(("rows", "samples"), [(1, 100_000), (64, 1000), (4000, 20), (4000, None)])
def test_no_piece_is_long(rows: int, samples: int | None) -> None:
    """However large a query is, its pieces stay below a bound of arithmetic, so that none holds up the others."""
    spec = Mlp(inputs=64, hidden=(512, 512, 512), dropout=0.5, head=RegressionHead())
    network = compiled(spec, module_of(spec))
    committee = Committee(1, samples) if samples else None
    query = Query(rows_of(rows, 64), committee)
    for way in ("tiles", "thinned") if committee else ("tiles",):
        prefix, *following = Evaluation(network, [query], threads=2, way=way).stages()
        pairs = [
            sum(part.samples * (part.rows.stop - part.rows.start) for part in piece.args[1])
            for stage in following
            for piece in stage
        ] or [piece.args[0].stop - piece.args[0].start for piece in prefix]
        assert sum(pairs) == rows * (samples or 1)
        work = network.flops_per_row if way == "tiles" else 2 * network.trained.thinned_work
        assert max(pairs) * work <= PIECE_FLOPS
