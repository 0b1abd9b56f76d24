"""The kernel: it draws NumPy's random numbers, agrees with the reference, and its bits are the same everywhere."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine import mixtures, reference, verify
from service.engine.evaluate import evaluate, evaluation
from service.engine.kernel import binaries
from service.engine.kernel.program import Program
from service.engine.masks import draw_masks, random_lanes
from service.engine.plan import compile_network
from service.engine.query import Committee, Query
from service.engine.workspace import Workspace
from tests.networks import (
    ACTIVATIONS,
    NORMS,
    ClassificationHead,
    Mlp,
    RegressionHead,
    compiled,
    mlps,
    module_of,
    probabilities,
    rows_of,
    seeds,
)


@pytest.fixture(params=binaries.builds(), ids=lambda build: f"{build.vector}-floats")
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[binaries.Build]:
    """Each library that this processor can run takes the place of the best one."""
    if not binaries.runs_here(request.param):
        pytest.skip("this processor lacks its instructions")
    monkeypatch.setattr(binaries, "suitable", lambda: request.param)
    binaries.load.cache_clear(), binaries.vector.cache_clear()
    yield request.param
    binaries.load.cache_clear(), binaries.vector.cache_clear()


@given(seed=st.integers(0, 2**64 - 1), first=st.integers(0, 2**63), samples=st.integers(1, 5), width=st.integers(1, 99))
def test_it_draws_what_numpy_draws(seed: int, first: int, samples: int, width: int) -> None:
    """The same lanes as NumPy's generator gives, also where the counter needs more than 64 bits."""
    loaded = binaries.load()
    assert loaded is not None
    expected = random_lanes(seed, first, samples, [width])
    words = np.zeros(expected.nbytes // 8, np.uint64)
    where = words.ctypes.data_as(ctypes.POINTER(ctypes.c_uint64))
    loaded.draw(seed, first, samples, expected.shape[1] // 16, where)
    assert np.array_equal(words.view("<u2").reshape(expected.shape), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("p", [None, 0.0, 0.02, 0.5, 0.95, 1.0])
def test_it_equals_the_loop(activation: Any, norm: Any, residual: bool, p: float | None) -> None:
    """Every kind of layer, in company of blocks that are open at the first site, full or thinned."""
    spec = Mlp(
        inputs=13,
        hidden=(40, 40, 70),
        activation=activation,
        norm=norm,
        residual=residual,
        dropout=(0.0, 0.3, 0.1),
        input_dropout=0.1 if residual else 0.0,
        head=RegressionHead(outputs=3),
    )
    module = module_of(spec)
    network = compiled(spec, module)
    for rows in (1, 7, 130):
        query = Query(rows_of(rows, 13), Committee(3, 9, first_sample=7, p=p))
        expected = reference.evaluate(module, network.site_widths, query)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(evaluate(network, query), expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_exact_enough(activation: Any) -> None:
    """Over all magnitudes, to a few units in the last place of PyTorch's float64; NaN included."""
    spec = Mlp(inputs=1, hidden=(1,), activation=activation, dropout=0.0, head=RegressionHead())
    module = module_of(spec)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float(parameter.ndim > 1))
    magnitudes = np.concatenate([np.geomspace(1e-30, 1e30, 2000), np.linspace(0, 20, 4001)])
    x = np.concatenate([magnitudes, -magnitudes, [np.nan]]).astype(np.float32)[:, None]
    ours = evaluate(compiled(spec, module), Query(x))[0]
    with torch.no_grad():
        exact = module[0][1](torch.from_numpy(x).double()).numpy()
    # 1 − Φ is known to 1e-7 where it is not small, and x times that is all that GELU is off by.
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=2e-6 if activation == "gelu" else 2e-7)


def by_hand(spec: Mlp, module: Any, rows: Any, committee: Committee) -> Any:
    """A ReLU network as the kernel promises to add it up: in order, each term fused, here in float64 and rounded."""
    layers = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    ps = spec.dropout if committee.p is None else (committee.p,) * len(spec.dropout)
    masks = draw_masks(committee.seed, committee.first_sample, committee.samples, spec.hidden, ps)
    x = np.broadcast_to(rows, (committee.samples, *rows.shape))
    for layer, mask in zip(layers, [*masks, None], strict=True):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        y = np.broadcast_to(bias, (*x.shape[:2], len(bias)))
        for k in range(x.shape[2]):
            # A product of two float32 is exact in float64; the sum is rounded twice, which almost never shows.
            y = (x[..., k, None].astype(np.float64) * weight[:, k] + y).astype(np.float32)
        x = y if layer is layers[-1] else np.maximum(y, 0) * (1 if mask is None else mask[:, None])
    return x


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize(("hidden", "dropout"), [((21, 34), (0.25, 0.6)), ((80, 99), (0.1, 0.2))])
def test_every_sum_has_its_order(hidden: tuple[int, int], dropout: tuple[float, float]) -> None:
    """To the bit what adding up by hand gives: the promise on which company, rows and processors rest."""
    spec = Mlp(inputs=9, hidden=hidden, dropout=dropout, head=RegressionHead(outputs=2))
    module = module_of(spec)
    rows, committee = rows_of(70, 9), Committee(11, 13, first_sample=5)
    assert np.array_equal(
        evaluate(compiled(spec, module), Query(rows, committee)), by_hand(spec, module, rows, committee)
    )


@pytest.mark.usefixtures("build")
def test_its_bits_are_known() -> None:
    """Outputs of a network made from a counter-based generator have this hash, by every library, on every machine."""
    spec = Mlp(inputs=7, hidden=(50, 30), dropout=(0.1, 0.5), norm="layer", head=ClassificationHead(classes=3))
    random = np.random.Generator(np.random.Philox(2024))
    shapes = {name: tensor.shape for name, tensor in module_of(spec).state_dict().items()}
    tensors = {name: torch.from_numpy(random.random(shape, np.float32) - 0.5) for name, shape in shapes.items()}
    network = compile_network(spec, tensors, verify.ORDERED)
    rows = random.random((90, 7), np.float32)
    digests = [
        hashlib.sha256(evaluate(network, Query(rows, committee)).tobytes()).hexdigest()[:16]
        for committee in (None, Committee(1, 20), Committee(2**53 - 1, 20, first_sample=10**12, p=0.7))
    ]
    assert digests == ["c9faafc244911357", "e622a38a6b4df7a5", "8fcd398a77bb9733"]


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize(
    ("activation", "digest"),
    [
        ("relu", "653aae022db8097d"),
        ("leaky_relu", "d19eeb2a5ff1a538"),
        ("elu", "e5e1529ba72dbf02"),
        ("gelu", "4cb81747a29ad37d"),
        ("silu", "943d738f1de137b3"),
        ("tanh", "aa770cf8376ca64d"),
    ],
)
def test_the_bits_of_wide_networks_are_known(activation: Any, digest: str) -> None:
    """Likewise where zeros are looked for, widths are ragged, and activations are more than comparisons."""
    spec = Mlp(
        inputs=67,
        hidden=(131, 131, 90),
        dropout=(0.1, 0.2, 0.1),
        activation=activation,
        residual=True,
        head=RegressionHead(outputs=9),
    )
    random = np.random.Generator(np.random.Philox(7))
    shapes = {name: tensor.shape for name, tensor in module_of(spec).state_dict().items()}
    tensors = {name: torch.from_numpy(random.random(shape, np.float32) / 2 - 0.25) for name, shape in shapes.items()}
    network = compile_network(spec, tensors, verify.ORDERED)
    found = evaluate(network, Query(random.random((25, 67), np.float32), Committee(3, 33)))
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == digest


@pytest.mark.usefixtures("build")
def test_the_bits_of_quantiles_are_known() -> None:
    """Those of mixtures add up in an order of their own, which no processor's vectors change."""
    random = np.random.Generator(np.random.Philox(5))
    tails = np.array(
        [[0.01, 1.0, -2.3263478740408408], [0.3, 1.0, -0.524400512708041], [0.05, -1.0, 1.6448536269514722]]
    )
    found = mixtures.by_kernel(random.random((40, 37)) - 0.5, random.random((40, 37)) + 0.1, tails)
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "59b0f6b633282bb8"


@settings(max_examples=40)
@given(spec=mlps(), seed=seeds, p=probabilities, threads=st.integers(1, 3), rows=st.integers(1, 300))
def test_leaving_out_dropped_inputs_changes_no_bit(spec: Any, seed: int, p: float, threads: int, rows: int) -> None:
    """Many rows leave dropped inputs out, one row multiplies them by 0: the same bits."""
    network = compiled(spec, module_of(spec))
    inputs, committee = rows_of(rows, spec.inputs), Committee(seed, 3, p=p)
    asked, workspace = evaluation(network, [Query(inputs, committee)], threads), Workspace()
    for stage in asked.stages():
        for piece in stage:
            piece(workspace)
    alone = np.concatenate([evaluate(network, Query(row[None], committee)) for row in inputs], axis=1)
    assert np.array_equal(asked.of(0), alone, equal_nan=True)


@settings(max_examples=60)
@given(
    widths=st.lists(st.integers(64, 100), min_size=1, max_size=3),
    residual=st.booleans(),
    seed=seeds,
    p=st.floats(0.0, 0.6),
    rows=st.integers(1, 25),
    samples=st.integers(1, 20),
)
def test_leaving_out_what_relu_made_zero_changes_no_bit(
    widths: list[int], residual: bool, seed: int, p: float, rows: int, samples: int
) -> None:
    """Wide networks look for zeros, of a row or of a sample: as each sample of each row alone."""
    hidden = (widths[0],) * 3 if residual else tuple(widths)
    spec = Mlp(inputs=5, hidden=hidden, residual=residual, dropout=p, head=RegressionHead(outputs=2))
    network, inputs = compiled(spec, module_of(spec)), rows_of(rows, 5)
    alone = [
        [evaluate(network, Query(row[None], Committee(seed, 1, first_sample=sample)))[0, 0] for row in inputs]
        for sample in range(samples)
    ]
    assert np.array_equal(evaluate(network, Query(inputs, Committee(seed, samples))), np.array(alone))


def test_a_kernel_that_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Were it miscompiled, networks would be evaluated by PyTorch, and the log would say so."""
    whole = Program.evaluate

    def wrong(self: Program, parts: Any, rows: Any, out: Any, room: int) -> None:
        whole(self, parts, rows, out, room)
        out += 0.01

    monkeypatch.setattr(Program, "evaluate", wrong)
    spec = Mlp(inputs=4, hidden=(8,), dropout=0.5, head=RegressionHead())
    with caplog.at_level(logging.ERROR):
        network = verify.verified_network(spec, module_of(spec).state_dict())
    assert network.row_plan.kind == "aligned"
    assert network.row_plan.verified
    assert "does not agree" in caplog.text


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("suitable", lambda: binaries.Build("none", 8), "not built"),
        ("runs_here", lambda _: False, "does not run on this processor"),
        ("builds", lambda: (), "does not run on this processor"),
    ],
)
def test_without_a_library_pytorch_evaluates(
    name: str, value: Any, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not built, or on a processor that has none: a line in the log, and the same answers but for last digits."""
    spec = Mlp(inputs=4, hidden=(8,), dropout=0.5, head=RegressionHead())
    tensors, query = module_of(spec).state_dict(), Query(rows_of(3, 4), Committee(1, 5))
    expected = evaluate(verify.verified_network(spec, tensors), query)
    monkeypatch.setattr(binaries, name, value)
    monkeypatch.setattr(binaries, "load", binaries.load.__wrapped__)
    network = verify.verified_network(spec, tensors)
    assert network.row_plan.kind == "aligned"
    assert says in caplog.text
    np.testing.assert_allclose(evaluate(network, query), expected, rtol=1e-5, atol=1e-6)


def test_building_twice_builds_once() -> None:
    """The command finds the libraries that are there: one for each kind of processor."""
    made = subprocess.run(
        [sys.executable, "-m", "service.engine.kernel"], check=True, capture_output=True, text=True
    ).stdout
    assert made.splitlines() == [f"{build.path.name} is there" for build in binaries.builds()]
