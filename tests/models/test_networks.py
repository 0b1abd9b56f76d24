"""Modules built from specs: shapes, numbers against a hand-written forward pass, and dropout in place."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.special import erf
from torch import nn

from models.architecture import Mlp, RegressionHead
from models.description import describe_architecture
from models.layers import NORM_EPSILON
from models.networks import activation, build, expected_tensors
from tests.models.examples import ACTIVATIONS, HEADS, NORMS, mlps, module_of, rows_of, specs

FORMULAS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: x * 0.5 * (1.0 + erf(x / math.sqrt(2.0))),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
}


@pytest.mark.parametrize(("function", "norm", "residual", "head"), [*product(ACTIVATIONS, NORMS, [False, True], HEADS)])
def test_shapes(function, norm, residual, head):
    """Every combination maps rows to float32 head outputs in train mode, and in eval mode a single row too."""
    spec = Mlp(inputs=4, hidden=(4, 5), activation=function, norm=norm, residual=residual, head=head)
    module = build(spec)
    assert module.training
    trained, served = module(rows_of(3, 4)), module.eval()(rows_of(1, 4))
    assert (trained.shape, served.shape) == ((3, head.width), (1, head.width))
    assert trained.dtype == served.dtype == torch.float32


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_activations(function):
    """An activation is its formula, with the constants PyTorch documents."""
    x = np.linspace(-6.0, 6.0, 101)
    np.testing.assert_allclose(activation(function)(torch.from_numpy(x)).numpy(), FORMULAS[function](x), atol=1e-12)


@given(mlps())
def test_forward_by_hand(spec):
    """In eval mode a network computes what its spec says, written out here a second time."""
    module, rows = module_of(spec).double(), rows_of(5, spec.inputs).double()
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        np.testing.assert_allclose(module(rows).numpy(), _forward(spec, state, rows.numpy()), atol=1e-9)


def _forward(spec, state, x):
    for number in range(1, len(spec.hidden) + 1):
        at = f"hidden{number}."
        y = x @ state[at + "linear.weight"].T + state[at + "linear.bias"]
        if spec.norm != "none":
            if spec.norm == "batch":
                mean, variance = state[at + "norm.running_mean"], state[at + "norm.running_var"]
            else:
                mean, variance = y.mean(axis=1, keepdims=True), y.var(axis=1, keepdims=True)
            y = (y - mean) / np.sqrt(variance + NORM_EPSILON) * state[at + "norm.weight"] + state[at + "norm.bias"]
        y = FORMULAS[spec.activation](y)
        x = x + y if spec.residual and y.shape == x.shape else y
    return x @ state["head.weight"].T + state["head.bias"]


@given(specs())
def test_parameter_count(spec):
    """A module has as many trainable numbers as the description counts without it."""
    assert sum(weight.numel() for weight in build(spec).parameters()) == describe_architecture(spec).parameters


@given(specs())
def test_expected_tensors(spec):
    """What a weights file must hold is the state dict of the module: names, types and shapes."""
    state = build(spec).state_dict()
    assert expected_tensors(spec) == {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}


def test_expected_tensors_draw_nothing():
    """Asking what a weights file must hold takes no memory for weights and no number from the global generator."""
    huge = Mlp(inputs=65536, hidden=(65536, 65536), head=RegressionHead())
    before = torch.get_rng_state()
    assert expected_tensors(huge)["hidden2.linear.weight"] == (torch.float32, (65536, 65536))
    assert torch.equal(torch.get_rng_state(), before)


@given(specs())
def test_in_place_changes_nothing(spec):
    """Dropout in place gives the same outputs as dropout in new tensors, and leaves the caller's rows alone."""
    outputs = []
    for inplace in (False, True):
        module = module_of(spec.model_copy(update={"inplace": inplace}))
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.train()
        rows = rows_of(4, spec.inputs)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(1)
            outputs.append(module(rows))
        assert torch.equal(rows, rows_of(4, spec.inputs))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("inplace", [False, True])
def test_in_place_is_passed_on(inplace):
    """The hidden layers' dropout works in place where the spec says so, the inputs' never."""
    module = build(Mlp(inputs=2, hidden=(3,), input_dropout=0.5, inplace=inplace, head=RegressionHead()))
    assert (module.input_dropout.inplace, module.hidden1.dropout.inplace) == (False, inplace)


def test_p_of_one():
    """With p = 1 nothing of the hidden layer gets through: what remains is the head's bias, not NaN."""
    module = module_of(Mlp(inputs=2, hidden=(3,), dropout=1.0, head=RegressionHead())).train()
    assert torch.equal(module(rows_of(4, 2)), module.head.bias.expand(4, 1))


def test_p_of_zero():
    """With p = 0 a network answers the same in train mode as in eval mode."""
    module = module_of(Mlp(inputs=2, hidden=(3,), norm="layer", dropout=0.0, head=RegressionHead()))
    full = module(rows_of(4, 2))
    assert torch.equal(module.train()(rows_of(4, 2)), full)


def test_kept_units_are_scaled():
    """Every unit a dropout layer keeps is multiplied by 1 / (1 − p), every other is 0."""
    module = build(Mlp(inputs=200, hidden=(1,), input_dropout=0.75, head=RegressionHead()))
    assert set(module.input_dropout(torch.ones(5, 200)).unique().tolist()) == {0.0, 4.0}
