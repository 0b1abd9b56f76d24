"""Specs → plain PyTorch modules: what training trains, and the reference the engine is tested against.

Knows nothing of seeds or serving. In eval mode these modules are the full network; nothing here is fast on purpose.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from models.architecture import Architecture, FfStack
from models.layers import (
    NORM_EPSILON,
    Activation,
    ActivationName,
    Block,
    ClassToken,
    Dropout,
    FirstToken,
    Layer,
    Linear,
    Norm,
    Patches,
    Positions,
    Transpose,
)

STACK_INIT_STD = 0.02


class ResidualBlock(nn.Sequential):
    """Adds its input to its output."""

    def forward(self, x: Tensor) -> Tensor:
        """[rows, width] → [rows, width]."""
        # Kept before the layers run: an in-place layer must not change what is added.
        kept = x.clone()
        for layer in self:
            x = layer(x)
        return kept + x


class CutPatches(nn.Module):
    """Cuts images into patches."""

    def __init__(self, height: int, width: int, channels: int, patch: int) -> None:
        super().__init__()
        self.down, self.across, self.channels, self.patch = height // patch, width // patch, channels, patch

    def forward(self, x: Tensor) -> Tensor:
        """[rows, height × width × channels] → [rows, patches, channels × patch × patch]."""
        pixels = x.reshape(len(x), self.down, self.patch, self.across, self.patch, self.channels)
        return pixels.permute(0, 1, 3, 5, 2, 4).reshape(len(x), self.down * self.across, -1)


class PrependToken(nn.Module):
    """Puts a learned token before the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[rows, tokens − 1, width] → [rows, tokens, width]."""
        return torch.cat((self.token.expand(len(x), 1, -1), x), dim=1)


class AddPositions(nn.Module):
    """Adds a learned vector to the class token and to each place of a grid, resampled where learnt on another one."""

    def __init__(self, learnt: tuple[int, int], grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.learnt, self.grid = learnt, grid
        self.values = nn.Parameter(torch.zeros(1 + learnt[0] * learnt[1], width))

    def forward(self, x: Tensor) -> Tensor:
        """[rows, tokens, width] → the same."""
        return x + resampled_positions(self.values, self.learnt, self.grid)


def resampled_positions(values: Tensor, learnt: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Positions [1 + learnt places, width], the class token's first, on another grid: [1 + places, width]."""
    if learnt == grid:
        return values
    places = values[1:].T.reshape(1, -1, *learnt)
    resampled = nn.functional.interpolate(places, grid, mode="bilinear", align_corners=False)
    return torch.cat((values[:1], resampled[0].flatten(1).T))


class SwapTokensAndFeatures(nn.Module):
    """Turns rows into columns."""

    def forward(self, x: Tensor) -> Tensor:
        """[rows, m, n] → [rows, n, m]."""
        return x.transpose(1, 2)


class TakeFirstToken(nn.Module):
    """Leaves the first token."""

    def forward(self, x: Tensor) -> Tensor:
        """[rows, tokens, width] → [rows, width]."""
        return x[:, 0]


def build(architecture: Architecture) -> nn.Sequential:
    """The module of a spec in train mode, freshly initialised: with PyTorch's defaults, a stack as it was published.

    It maps standardised rows [rows, inputs] to head outputs [rows, head.width], both float32.
    """
    module = _sequence(architecture.layers())
    if isinstance(architecture, FfStack):
        _initialise_stack(module)
    return module


def _initialise_stack(module: nn.Module) -> None:
    """Weights, class token and positions from a truncated normal distribution, biases 0 (Melas-Kyriazi 2021)."""
    for part in module.modules():
        match part:
            case nn.Linear():
                nn.init.trunc_normal_(part.weight, std=STACK_INIT_STD)
                nn.init.zeros_(part.bias)
            case PrependToken():
                nn.init.trunc_normal_(part.token, std=STACK_INIT_STD)
            case AddPositions():
                nn.init.trunc_normal_(part.values, std=STACK_INIT_STD)


def _sequence(layers: tuple[Layer, ...]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((layer.name, module_of(layer)) for layer in layers))


def module_of(layer: Layer) -> nn.Module:
    """The module of a single layer."""
    match layer:
        case Linear(inputs=inputs, outputs=outputs):
            return nn.Linear(inputs, outputs)
        case Norm(kind="batch", width=width):
            return nn.BatchNorm1d(width, eps=NORM_EPSILON)
        case Norm(width=width, epsilon=epsilon):
            return nn.LayerNorm(width, eps=epsilon)
        case Activation(function=function):
            return activation(function)
        case Dropout(p=p, inplace=inplace):
            return nn.Dropout(p, inplace)
        case Block(layers=inner, residual=True):
            return ResidualBlock(OrderedDict((layer.name, module_of(layer)) for layer in inner))
        case Block(layers=inner):
            return _sequence(inner)
        case _:
            return _OF_STACKS[type(layer)](*arguments_of(layer))


_OF_STACKS: dict[type, type[nn.Module]] = {
    Patches: CutPatches,
    ClassToken: PrependToken,
    Positions: AddPositions,
    Transpose: SwapTokensAndFeatures,
    FirstToken: TakeFirstToken,
}


def arguments_of(layer: Layer) -> tuple[Any, ...]:
    """What a layer's module is made with, where that module is one of these here."""
    match layer:
        case Patches(height=height, width=width, channels=channels, patch=patch):
            return height, width, channels, patch
        case ClassToken(width=width):
            return (width,)
        case Positions(learnt=learnt, grid=grid, width=width):
            return learnt, grid, width
        case _:
            return ()


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


def meta_parameters(architecture: Architecture) -> int:
    """Parameters of the module of a spec, counted without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(architecture).parameters())
