"""Specs → plain PyTorch modules: what training trains, and the reference the engine is tested against.

Knows nothing of seeds or serving. In eval mode these modules are the full network; nothing here is fast on purpose.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.layers import NORM_EPSILON, Activation, ActivationName, Block, Dropout, Layer, Linear, Norm


class ResidualBlock(nn.Sequential):
    """Adds its input to its output."""

    def forward(self, x: Tensor) -> Tensor:
        """[rows, width] → [rows, width]."""
        # Kept before the layers run: an in-place layer must not change what is added.
        kept = x.clone()
        for layer in self:
            x = layer(x)
        return kept + x


def build(architecture: Architecture) -> nn.Sequential:
    """The module of a spec, freshly initialised with PyTorch's defaults, in train mode.

    It maps standardised rows [rows, inputs] to head outputs [rows, head.width], both float32.
    """
    return _sequence(architecture.layers())


def _sequence(layers: tuple[Layer, ...]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((layer.name, _module(layer)) for layer in layers))


def _module(layer: Layer) -> nn.Module:
    match layer:
        case Linear(inputs=inputs, outputs=outputs):
            return nn.Linear(inputs, outputs)
        case Norm(kind="batch", width=width):
            return nn.BatchNorm1d(width, eps=NORM_EPSILON)
        case Norm(width=width):
            return nn.LayerNorm(width, eps=NORM_EPSILON)
        case Activation(function=function):
            return activation(function)
        case Dropout(p=p, inplace=inplace):
            return nn.Dropout(p, inplace)
        case Block(layers=inner, residual=True):
            return ResidualBlock(OrderedDict((layer.name, _module(layer)) for layer in inner))
        case Block(layers=inner):
            return _sequence(inner)


def activation(function: ActivationName) -> nn.Module:
    """The module of an activation, with PyTorch's default parameters."""
    match function:
        case "relu":
            return nn.ReLU()
        case "gelu":
            return nn.GELU()
        case "silu":
            return nn.SiLU()
        case "tanh":
            return nn.Tanh()
        case "elu":
            return nn.ELU()
        case "leaky_relu":
            return nn.LeakyReLU()


def expected_tensors(architecture: Architecture) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Name → (dtype, shape) of every tensor a weights file of this architecture must hold, and no others."""
    with torch.device("meta"):
        return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in build(architecture).state_dict().items()}
