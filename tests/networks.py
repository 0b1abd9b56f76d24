"""Random architectures with random weights, for tests of the engine and of the laws."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from models.architecture import Architecture, ClassificationHead, FfStack, Mlp, RegressionHead
from models.features import Float32
from models.networks import build
from service.engine.plan import Network, RowPlan, compile_network
from service.engine.verify import verified_network

ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "elu", "leaky_relu")
NORMS = ("none", "batch", "layer")

ENGINES = ("kernel", "torch")

engines = st.sampled_from(ENGINES)
seeds = st.integers(0, 2**53 - 1)
probabilities = st.one_of(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.floats(0.0, 1.0))
heads = st.one_of(
    st.builds(RegressionHead, outputs=st.integers(1, 3), variance=st.booleans()),
    st.builds(ClassificationHead, classes=st.integers(2, 11)),
)


@st.composite
def mlps(draw: st.DrawFn) -> Mlp:
    """Any MLP spec of modest size."""
    inputs, head = draw(st.integers(1, 20)), draw(heads)
    widths = draw(st.lists(st.integers(1, 70), min_size=1, max_size=3))
    residual = draw(st.booleans())
    if residual:
        widths.append(widths[-1])  # at least one block that can be skipped
    return Mlp(
        inputs=inputs,
        hidden=tuple(widths),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        norm=draw(st.sampled_from(NORMS)),
        dropout=tuple(draw(st.lists(probabilities, min_size=len(widths), max_size=len(widths)))),
        input_dropout=draw(st.sampled_from([0.0, 0.2])),
        inplace=draw(st.booleans()),
        residual=residual,
        head=head,
    )


@st.composite
def stacks(draw: st.DrawFn) -> FfStack:
    """Any feed-forward stack of modest size."""
    patch, down, across = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    depth = draw(st.integers(1, 2))
    return FfStack(
        image=(patch * down, patch * across, *channels),
        patch=patch,
        dim=draw(st.integers(1, 20)),
        depth=depth,
        ratio=draw(st.integers(1, 4)),
        dropout=tuple(draw(st.lists(probabilities, min_size=depth, max_size=depth))),
        position_dropout=draw(st.sampled_from([0.0, 0.2])),
        positions=draw(st.sampled_from([None, (2, 3)])),
        inplace=draw(st.booleans()),
        head=draw(heads),
    )


def architectures() -> st.SearchStrategy[Architecture]:
    """Any spec of modest size."""
    return st.one_of(mlps(), stacks())


def module_of(architecture: Architecture, seed: int = 0) -> nn.Sequential:
    """The plain module with random weights, its norms and positions away from their initial values, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(architecture)
        if isinstance(architecture, FfStack):  # as it is initialised, nothing is far from 0
            for parameter in module.parameters():
                parameter.data += 0.2 * torch.randn(parameter.shape)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_()
    return module.eval()


def compiled(
    architecture: Architecture, module: nn.Module, engine: str = "kernel", *, plan: RowPlan | None = None
) -> Network:
    """The engine's network for a module: as it is served by one of ENGINES, or for one row plan, unverified.

    The kernel has no steps for stacks: PyTorch evaluates them.
    """
    tensors = module.state_dict()
    if plan:
        return compile_network(architecture, tensors, plan)
    network = verified_network(architecture, tensors, kernel=engine == "kernel")
    assert (network.row_plan.kind == "ordered") == (engine == "kernel" and isinstance(architecture, Mlp))
    return network


def rows_of(count: int, inputs: int, seed: int = 0) -> Float32:
    """Standardised rows [count, inputs]."""
    return np.random.Generator(np.random.Philox(seed)).standard_normal((count, inputs), np.float32)
