"""The ways of evaluating: each agrees with the reference, keeps the laws to the bit, and is chosen by rows alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine import cost, reference, verify
from service.engine.cost import Way
from service.engine.evaluate import Evaluation, evaluate
from service.engine.plan import Network
from service.engine.query import Committee, Query
from service.engine.tiles import Workspace
from tests.networks import ClassificationHead, Mlp, compiled, module_of, rows_of, seeds

WIDE = (256, 270, 256)


def wide(p: float | tuple[float, ...], hidden: tuple[int, ...] = WIDE, **more: Any) -> tuple[Mlp, Any, Network]:
    """A network that has all ways open."""
    spec = Mlp(inputs=16, hidden=hidden, dropout=p, head=ClassificationHead(classes=3), **more)
    module = module_of(spec)
    return spec, module, compiled(spec, module)


def way_of(network: Network, rows: int, p: float | None = None) -> Way:
    """The way that is chosen."""
    return cost.way(network, network.cut(p), rows)


PS: list[Any] = [0.02, 0.1, 0.25, 0.3, 0.5, 0.9, (0.1, 0.0, 0.5), (0.0, 0.4, 0.0), (0.5, 0.5, 0.0)]


@pytest.mark.parametrize("p", PS, ids=str)
@pytest.mark.parametrize(("way", "rows"), [("row", 1), ("thinned", 1), ("thinned", 40), ("tiles", 1), ("tiles", 40)])
def test_every_way_equals_the_loop(p: Any, way: Way, rows: int) -> None:
    """Whatever is left out, the outputs are those of a plain forward with the masks multiplied in."""
    _, module, network = wide(p, norm="batch")
    query = Query(rows_of(rows, 16), Committee(3, 25, first_sample=7))
    expected = reference.evaluate(module, network.site_widths, query)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(evaluate(network, query, way=way), expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "elu", "leaky_relu"])
@pytest.mark.parametrize(("way", "rows"), [("row", 1), ("thinned", 20)])
def test_every_activation_can_be_thinned(activation: Any, way: Way, rows: int) -> None:
    """Dropped units are left out behind any activation, also one that does not keep zeros."""
    _, module, network = wide(0.4, hidden=(256, 256), activation=activation, input_dropout=0.2)
    query = Query(rows_of(rows, 16), Committee(3, 9))
    expected = reference.evaluate(module, network.site_widths, query)
    np.testing.assert_allclose(evaluate(network, query, way=way), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize(("way", "rows"), [("row", 1), ("thinned", 33)])
def test_a_sub_range_of_samples_is_part_of_the_whole(p: float, way: Way, rows: int) -> None:
    """The prefix law, to the bit, in each way and across tiles."""
    *_, network = wide(p)
    inputs = rows_of(rows, 16)
    whole = evaluate(network, Query(inputs, Committee(5, 700)), way=way)
    for start, stop in ((0, 1), (0, 100), (100, 300), (511, 513), (699, 700)):
        part = evaluate(network, Query(inputs, Committee(5, stop - start, start)), way=way)
        assert np.array_equal(part, whole[start:stop])


@settings(max_examples=15)
@given(seed=seeds, order=st.permutations(range(37)))
def test_a_rows_place_in_a_thinned_request_does_not_matter(seed: int, order: list[int]) -> None:
    """Rows in another order get their outputs in that order, to the bit."""
    *_, network = wide(0.5)
    inputs, committee = rows_of(37, 16), Committee(seed, 3)
    placed = evaluate(network, Query(inputs[order], committee), way="thinned")
    assert np.array_equal(placed, evaluate(network, Query(inputs, committee), way="thinned")[:, order])


def test_thinned_rows_are_cut_without_a_trace() -> None:
    """More rows than one product takes, or than one piece of work: a row's bits don't tell where it stood."""
    *_, network = wide(0.5, hidden=(256, 256))
    inputs, committee = rows_of(30_000, 16), Committee(1, 2)
    pieces = [
        Evaluation(network, [Query(rows, committee)], way="thinned").stages()[1] for rows in (inputs, inputs[:50])
    ]
    assert len(pieces[0]) > len(pieces[1]) == 1
    whole = evaluate(network, Query(inputs, committee), way="thinned")
    rolled = evaluate(network, Query(np.roll(inputs, 700, axis=0), committee), way="thinned")
    assert np.array_equal(np.roll(whole, 700, axis=1), rolled)
    np.testing.assert_allclose(whole, evaluate(network, Query(inputs, committee), way="tiles"), rtol=1e-4, atol=1e-5)


def test_the_way_depends_on_rows_and_network_alone() -> None:
    """One wide row goes its own way, many rows are thinned where p is large, all else shares tiles."""
    *_, small_p = wide(0.1, hidden=(512, 512, 512))
    *_, large_p = wide(0.5, hidden=(512, 512, 512))
    *_, narrow = wide(0.5, hidden=(50, 50))
    assert [way_of(large_p, rows) for rows in (1, 4, 64, 1024)] == ["row", "tiles", "thinned", "thinned"]
    assert [way_of(small_p, rows) for rows in (1, 4, 64)] == ["row", "tiles", "tiles"]
    assert {way_of(narrow, rows) for rows in (1, 64, 4096)} == {"tiles"}
    assert way_of(small_p, 64, p=0.5) == "thinned"
    assert way_of(large_p, 64, p=1.0) == way_of(large_p, 64, p=0.0) == "tiles"


def test_layer_normalisation_and_residuals_are_never_thinned() -> None:
    """They need all units of a layer."""
    for more in ({"norm": "layer"}, {"residual": True}):
        *_, network = wide(0.5, hidden=(512, 512), **more)
        assert way_of(network, 1024) == "tiles"


def test_thinning_is_used_only_where_places_were_found_not_to_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build whose products depend on a row's place gets no thinned way."""
    spec, module, network = wide(0.5, hidden=(512, 512))
    assert network.may_thin
    addmm = torch.addmm

    def fickle(bias: Any, x: Any, weight: Any, **more: Any) -> Any:
        out = addmm(bias, x, weight, **more)
        # The columns of a thinned product are rows of the request.
        return out.mul_(1 + 2**-20 * torch.arange(out.shape[1])) if bias.shape[-1] == 1 and bias.ndim == 2 else out

    monkeypatch.setattr(torch, "addmm", fickle)
    assert not verify.with_verified_plan(network).may_thin
    assert way_of(compiled(spec, module), 1024) == "tiles"


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_a_row_without_active_units(p: float) -> None:
    """Nothing to drop and nothing to add: what remains is the bias."""
    spec = Mlp(inputs=16, hidden=(256, 256), dropout=p, head=ClassificationHead(classes=3))
    module = module_of(spec)
    dict(module.named_parameters())["hidden1.linear.bias"].data.fill_(-1e6)
    network = compiled(spec, module)
    query = Query(rows_of(1, 16), Committee(3, 20))
    expected = reference.evaluate(module, network.site_widths, query)
    np.testing.assert_allclose(evaluate(network, query, way="row"), expected, rtol=1e-5, atol=1e-6)


def test_one_workspace_serves_all_ways_in_turn() -> None:
    """Buffers left by one way don't show in another."""
    *_, network = wide(0.5)
    workspace = Workspace()
    queries = [Query(rows_of(rows, 16, rows), Committee(rows, 30)) for rows in (1, 40, 3, 1, 20)]
    for way in ("row", "thinned", "tiles", "tiles", "thinned"), ("row", "thinned", "thinned", "row", "tiles"):
        for query, each in zip(queries, way, strict=True):
            evaluation = Evaluation(network, [query], way=each)
            for stage in evaluation.stages():
                for piece in stage:
                    piece(workspace)
            assert np.array_equal(evaluation.of(0), evaluate(network, query, way=each))
