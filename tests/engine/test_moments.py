"""Moments: exact where they can be, near what many samples say where not, and nothing a row's company changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch.nn import functional

from models.architecture import ClassificationHead, Mlp, RegressionHead
from service.engine import moments
from service.engine.evaluate import evaluate
from service.engine.moments import Moments, NotCovered
from service.engine.query import Committee, Query
from service.engine.verify import ORDERED
from tests.networks import ACTIVATIONS, compiled, engines, module_of, rows_of

FUNCTIONS = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "elu": functional.elu,
}


def numbers(tensors: Any) -> list[Any]:
    """Tensors as arrays."""
    return [tensor.numpy() for tensor in tensors]


@settings(max_examples=20)
@given(engine=engines, p=st.sampled_from([0.0, 0.1, 0.5, 0.9]), inputs=st.integers(1, 9), seed=st.integers(0, 9))
def test_they_are_exact_for_one_site_behind_which_all_is_linear(engine: str, p: float, inputs: int, seed: int) -> None:
    """Of Σ w m h + b with independent masks: mean Σ w h + b, covariance Σ w wᵀ h² p / (1 − p)."""
    spec = Mlp(inputs=inputs, hidden=(20,), dropout=p, head=RegressionHead(outputs=3))
    module, row = module_of(spec, seed), rows_of(1, inputs, seed)[0]
    network = compiled(spec, module, engine)
    mean, covariance = numbers(Moments(network).of(row))
    with torch.no_grad():
        hidden = module.hidden1(torch.from_numpy(row)[None])[0].double().numpy()
    weight, bias = numbers((module.head.weight.detach().double(), module.head.bias.detach().double()))
    q = round(65536 * p) / 65536
    assert np.allclose(mean, weight @ hidden + bias, rtol=1e-5, atol=1e-6)
    assert np.allclose(covariance, (weight * (hidden**2 * q / (1 - q))) @ weight.T, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("function", ACTIVATIONS)
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.5, 0.7), (-2.0, 0.5), (0.3, 3.0), (-40.0, 1.0)])
def test_an_activations_moments_are_their_integrals(function: Any, mean: float, deviation: float) -> None:
    """E f, Var f and the slope E f' of a normal input, against numerical integration of their definitions."""

    def integral(of: Any) -> float:
        def integrand(x: float) -> float:
            value = float(FUNCTIONS[function](torch.tensor(x, dtype=torch.float64)))
            return float(of(x, value) * norm.pdf(x, mean, deviation))

        low, high = mean - 12 * deviation, mean + 12 * deviation
        kinks = [0.0] if low < 0 < high else None
        return float(quad(integrand, low, high, points=kinks, limit=200)[0])

    first, second = integral(lambda _, value: value), integral(lambda _, value: value**2)
    slope = integral(lambda x, value: value * (x - mean)) / deviation**2
    state = moments._State(
        torch.tensor([mean], dtype=torch.float64),
        torch.tensor([[deviation]], dtype=torch.float64),
        torch.tensor([deviation**2], dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
    )
    found = moments._activation(function, state)
    # Closed forms are exact; quadrature is good where the function is smooth on the scale of the input's deviation.
    near = 1e-9 if "relu" in function else 5e-3 * deviation
    assert float(found.mean) == pytest.approx(first, abs=near)
    assert float(found.factor) == pytest.approx(slope * deviation, abs=near)
    assert float(found.variance) == pytest.approx(second - first**2, abs=4 * near)


@settings(max_examples=12)
@given(
    activation=st.sampled_from(ACTIVATIONS),
    norm_=st.sampled_from(["none", "batch"]),
    hidden=st.lists(st.integers(16, 64), min_size=1, max_size=3),
    p=st.sampled_from([0.05, 0.2, 0.5]),
    input_dropout=st.sampled_from([0.0, 0.2]),
)
def test_they_are_near_what_many_samples_say(
    activation: Any, norm_: Any, hidden: list[int], p: float, input_dropout: float
) -> None:
    """Mean within a sixth of the spread, spread within a quarter, of 4,000 samples of any covered network."""
    spec = Mlp(
        inputs=12,
        hidden=tuple(hidden),
        activation=activation,
        norm=norm_,
        dropout=p,
        input_dropout=input_dropout,
        head=ClassificationHead(classes=3),
    )
    network, rows = compiled(spec, module_of(spec)), rows_of(4, 12)
    draws = evaluate(network, Query(rows, Committee(7, 4000))).astype(np.float64)
    for place, row in enumerate(rows):
        mean, covariance = numbers(Moments(network).of(row))
        spread = draws[:, place].std(axis=0)
        assert (np.abs(mean - draws[:, place].mean(axis=0)) < spread / 6 + 1e-4).all()
        assert np.allclose(np.sqrt(np.diag(covariance)), spread, rtol=0.25)


def test_p_1_leaves_nothing_and_p_0_the_full_network() -> None:
    """The what-if of no dropout is the full network's answer without spread; that of all dropout is the biases'."""
    spec = Mlp(inputs=5, hidden=(30, 30), dropout=0.3, head=RegressionHead(outputs=2))
    module, row = module_of(spec), rows_of(1, 5)
    network = compiled(spec, module)
    mean, covariance = numbers(Moments(network, 0.0).of(row[0]))
    assert np.allclose(mean, evaluate(network, Query(row))[0, 0], rtol=1e-5)
    assert not covariance.any()
    mean, covariance = numbers(Moments(network, 1.0).of(row[0]))
    assert np.allclose(mean, module.head.bias.detach().numpy())
    assert not covariance.any()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"norm": "layer"}, "layer normalisation"),
        ({"residual": True}, "residual blocks"),
        ({"head": ClassificationHead(classes=1025)}, "so many outputs"),
        ({"hidden": (1500, 1500, 1500)}, "layers so wide"),
    ],
)
def test_what_is_not_covered_is_named(options: dict[str, Any], named: str) -> None:
    """Layers whose moments are not known, and networks that would take too long, are refused before any row."""
    spec = Mlp(**{"inputs": 4, "hidden": (8, 8), "dropout": 0.2, "head": RegressionHead(), **options})
    with pytest.raises(NotCovered, match=named):
        Moments(compiled(spec, module_of(spec), plan=ORDERED))


def test_points_and_roots_stand_for_a_normal() -> None:
    """The points have the moments of a standard normal; a root gives its covariance back, singular or not."""
    points = moments.spread_points(10).numpy()
    assert np.abs(points.mean(axis=0)).max() < 0.01
    assert np.abs(np.cov(points.T) - np.eye(10)).max() < 0.06
    flat = np.random.Generator(np.random.Philox(3)).standard_normal((6, 2))
    covariance = torch.from_numpy(flat @ flat.T)
    again = moments.root(covariance)
    assert np.allclose((again @ again.T).numpy(), covariance.numpy(), atol=1e-12)


def test_expectations_are_integrals() -> None:
    """The noise of a variance head is the mean of softplus over its own spread."""
    mean, variance = torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[0.8]], dtype=torch.float64)
    found = float(moments.expectation(functional.softplus, mean, variance))
    exact, _ = quad(lambda x: math.log1p(math.exp(x)) * norm.pdf(x, 0.5, math.sqrt(0.8)), -8, 9)
    assert found == pytest.approx(exact, rel=1e-6)
