"""Compilation: what is folded, filled up and left out; and that company is checked, not assumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.engine import reference, tiles, verify
from service.engine.evaluate import evaluate, evaluation
from service.engine.plan import LANES, PIECE_FLOPS, RowPlan
from service.engine.query import Committee, Query
from service.engine.steps import Drop, Normalise, Product
from tests.networks import ENGINES, ClassificationHead, Mlp, RegressionHead, compiled, module_of, rows_of

SPEC = Mlp(inputs=13, hidden=(50, 50), dropout=(0.0, 0.4), norm="batch", head=ClassificationHead(classes=3))


def test_batch_normalisation_is_folded_away() -> None:
    """A network with batch normalisation compiles to products, activations and dropout alone."""
    network = compiled(SPEC, module_of(SPEC))
    assert sum(isinstance(step, Product) for step in network.steps) == 3
    assert not any(isinstance(step, Normalise) for step in network.steps)


def test_every_width_is_a_multiple_of_the_lanes() -> None:
    """Products are filled up with zero columns, which stay zero."""
    network = compiled(SPEC, module_of(SPEC), "torch")
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


@pytest.mark.parametrize("engine", ENGINES)
def test_a_plan_is_verified_when_a_network_is_loaded(engine: str) -> None:
    """On this machine some plan holds, and the network says which."""
    assert compiled(SPEC, module_of(SPEC), engine).row_plan.verified


def test_a_plan_that_does_not_hold_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where products depend on their number of rows, verification falls back to one fixed shape."""
    addmm = torch.addmm

    def fickle(
        bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0
    ) -> torch.Tensor:
        # A kernel that sums in another order unless there are exactly 64 rows: what PyTorch warns of.
        result = addmm(bias, x, weight, out=out, alpha=alpha)
        return result if len(x) == 64 else result.mul_(1 + 2**-20 * (len(x) % 5))

    monkeypatch.setattr(torch, "addmm", fickle)
    found = compiled(SPEC, module_of(SPEC), "torch").row_plan
    assert found == RowPlan("fixed", 64, verified=True)


def test_no_plan_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even one shape repeats itself at every place, the network is marked unverified."""
    addmm = torch.addmm

    def worse(
        bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0
    ) -> torch.Tensor:
        return addmm(bias, x, weight, out=out, alpha=alpha).mul_(1 + 2**-20 * torch.arange(len(x))[:, None])

    monkeypatch.setattr(torch, "addmm", worse)
    assert not compiled(SPEC, module_of(SPEC), "torch").row_plan.verified


@pytest.mark.parametrize("plan", [verify.ORDERED, *verify.CANDIDATES])
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
    network = compiled(SPEC, module_of(SPEC), plan=RowPlan("fixed", 64))
    shapes = set()
    addmm = torch.addmm

    def watched(
        bias: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, alpha: float
    ) -> torch.Tensor:
        shapes.add(len(x))
        return addmm(bias, x, weight, out=out, alpha=alpha)

    monkeypatch.setattr(tiles.torch, "addmm", watched)
    for rows, samples in ((1, 100), (63, 2), (64, 2), (65, 2), (300, 3)):
        evaluate(network, Query(rows_of(rows, 13), Committee(1, samples)))
        evaluate(network, Query(rows_of(rows, 13)))
    assert shapes == {64}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("rows", "samples"), [(1, 100_000), (64, 1000), (4000, 20), (4000, None), (100, 1)])
def test_no_piece_is_long(rows: int, samples: int | None, engine: str) -> None:
    """However large a query is, its pieces stay below a bound of arithmetic, so that none holds up the others."""
    spec = Mlp(inputs=64, hidden=(512, 512, 512), dropout=0.5, head=RegressionHead())
    network = compiled(spec, module_of(spec), engine)
    query = Query(rows_of(rows, 64), Committee(1, samples) if samples else None)
    prefix, *following = evaluation(network, [query], threads=2).stages()
    pieces = [piece for stage in following or [prefix] for piece in stage]
    if engine == "kernel":
        pairs = [sum(part.samples * part.rows for part in piece.args[0]) for piece in pieces]
    elif samples:
        pairs = [sum(p.samples * (p.rows.stop - p.rows.start) for p in piece.args[1]) for piece in pieces]
    else:
        pairs = [piece.args[0].stop - piece.args[0].start for piece in pieces]
    assert sum(pairs) == rows * (samples or 1)
    assert max(pairs) * network.flops_per_row <= PIECE_FLOPS
    assert len(pairs) > 1 or (engine, samples) == ("torch", 1)  # both threads have something to do
