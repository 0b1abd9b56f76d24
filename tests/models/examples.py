"""Specs, manifests, weights and data sets for the tests of the models package."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from models.architecture import Architecture, ClassificationHead, FfStack, Mlp, RegressionHead
from models.data import Dataset
from models.features import ClassLabel, Feature, Target
from models.layers import ActivationName, NormName
from models.manifest import Manifest, seal
from models.networks import build
from models.repository import serialise

ACTIVATIONS = get_args(ActivationName)
NORMS = get_args(NormName)
HEADS = (RegressionHead(outputs=2), RegressionHead(outputs=2, variance=True), ClassificationHead(classes=3))
SMALL = Mlp(inputs=2, hidden=(3,), head=RegressionHead())

probabilities = st.floats(0.0, 1.0)


@st.composite
def mlps(draw: st.DrawFn) -> Mlp:
    """Any MLP spec of modest size."""
    inputs = draw(st.integers(1, 9))
    hidden = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    return Mlp(
        inputs=inputs,
        hidden=tuple(hidden),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        norm=draw(st.sampled_from(NORMS)),
        dropout=tuple(draw(probabilities) for _ in hidden),
        input_dropout=draw(probabilities),
        inplace=draw(st.booleans()),
        residual=draw(st.booleans()) and any(a == b for a, b in zip([inputs, *hidden], hidden, strict=False)),
        head=draw(st.sampled_from(HEADS)),
    )


@st.composite
def stacks(draw: st.DrawFn) -> FfStack:
    """Any spec of a feed-forward stack of modest size."""
    patch, depth = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    sides = (patch * draw(st.integers(1, 2)), patch * draw(st.integers(1, 3)))
    return FfStack(
        image=sides if draw(st.booleans()) else (*sides, draw(st.integers(1, 3))),
        patch=patch,
        dim=draw(st.integers(1, 7)),
        depth=depth,
        ratio=draw(st.integers(1, 4)),
        dropout=tuple(draw(probabilities) for _ in range(depth)),
        position_dropout=draw(probabilities),
        positions=draw(st.sampled_from([None, (3, 2)])),
        inplace=draw(st.booleans()),
        head=draw(st.sampled_from(HEADS)),
    )


def specs() -> st.SearchStrategy[Architecture]:
    """Any valid spec of modest size."""
    return st.one_of(mlps(), stacks())


def module_of(spec: Architecture, seed: int = 0) -> nn.Sequential:
    """A network with random weights, its norms away from their initial values, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = build(spec)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
            if isinstance(part, (nn.BatchNorm1d, nn.LayerNorm)):
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_()
    return module.eval()


def rows_of(count: int, inputs: int, seed: int = 0) -> Tensor:
    """Standardised rows [count, inputs]."""
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(seed))


def sealed(spec: Architecture = SMALL, weights: bytes = b"", **changes: Any) -> Manifest:
    """A manifest that fits a spec and a weights file, some of its parts changed."""
    head = spec.head
    outputs = (
        tuple(Target(name=f"y{i}", mean=0.0, scale=1.0) for i in range(head.outputs))
        if isinstance(head, RegressionHead)
        else tuple(ClassLabel(name=f"class {i}") for i in range(head.classes))
    )
    parts = {
        "name": "net",
        "version": "1",
        "task": head.kind,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "inputs": tuple(Feature(name=f"x{i}", range=(-1.0, 1.0)) for i in range(spec.inputs)),
        "outputs": outputs,
        "architecture": spec,
    }
    return seal(**(parts | changes))


def version_of(spec: Architecture = SMALL, seed: int = 0, **changes: Any) -> tuple[Manifest, bytes]:
    """A manifest and the weights file it was made for."""
    weights = serialise(module_of(spec, seed).state_dict())
    return sealed(spec, weights, **changes), weights


def linear_data(rows: int, noise: float, seed: int = 0) -> Dataset:
    """Targets 100 + 20 x₁ − 10 x₂ + 5 x₃ plus normal noise of a known standard deviation."""
    rng = np.random.Generator(np.random.PCG64(seed))
    inputs = rng.standard_normal((rows, 3))
    targets = 100.0 + inputs @ [20.0, -10.0, 5.0] + noise * rng.standard_normal(rows)
    return Dataset("synthetic", inputs, targets[:, None], ("x1", "x2", "x3"), ("y",), ("m",))


def two_clouds(rows: int, seed: int = 0) -> Dataset:
    """Two classes in the plane that hardly overlap."""
    rng = np.random.Generator(np.random.PCG64(seed))
    classes = rng.integers(0, 2, rows)
    inputs = rng.standard_normal((rows, 2)) + 4.0 * classes[:, None]
    return Dataset("synthetic", inputs, classes.astype(np.int64), ("x1", "x2"), ("left", "right"))
