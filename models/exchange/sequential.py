"""An nn.Sequential of plain layers → the spec of an MLP and its tensors.

Every hidden layer must have the same order, linear → norm → activation → dropout, of which norm and dropout may be left
out; all of them one kind of norm and one activation. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn

from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.exchange.files import ImportRefused
from models.layers import NORM_EPSILON, ActivationName, NormName

Head: TypeAlias = ClassificationHead | RegressionHead


class _Hidden:
    """One hidden layer as it is found."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.norm: nn.BatchNorm1d | nn.LayerNorm | None = None
        self.activation: ActivationName | None = None
        self.p = 0.0


def spec_of(module: nn.Sequential, head: Head) -> tuple[Mlp, dict[str, Tensor]]:
    """The spec that a module amounts to, and the tensors under the names of that spec. Raises ImportRefused."""
    layers = [(name, layer) for name, layer in _plain(module) if not isinstance(layer, (nn.Identity, nn.Flatten))]
    input_dropout = 0.0
    if layers and isinstance(first := layers[0][1], nn.Dropout):
        input_dropout = first.p
        layers.pop(0)
    if not layers or not isinstance(layers[-1][1], nn.Linear):
        last = type(layers[-1][1]).__name__ if layers else "nothing"
        raise ImportRefused(
            f"the last layer must be linear and is {last}: leave out what comes after it, such as softmax"
        )
    last_linear = layers.pop()[1]
    hidden = _hidden(layers)
    if not hidden:
        raise ImportRefused("there must be at least one hidden layer before the last linear one")
    if isinstance(last_linear, nn.Linear) and last_linear.out_features != head.width:
        raise ImportRefused(f"the last layer has {last_linear.out_features} outputs, and the head needs {head.width}")
    spec = Mlp(
        inputs=hidden[0].linear.in_features,
        hidden=tuple(each.linear.out_features for each in hidden),
        activation=_same("activation", [each.activation for each in hidden]),
        norm=_same("norm", [_norm_name(each.norm) for each in hidden]),
        dropout=tuple(each.p for each in hidden),
        input_dropout=input_dropout,
        head=head,
    )
    tensors: dict[str, Tensor] = {}
    for number, each in enumerate(hidden, start=1):
        tensors |= _linear(f"hidden{number}.linear", each.linear)
        if each.norm is not None:
            tensors |= _norm(f"hidden{number}.norm", each.norm)
    tensors |= _linear("head", last_linear)
    return spec, {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _plain(module: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers in order, those of inner sequences among them."""
    for name, layer in module.named_children():
        if type(layer) is nn.Sequential:
            yield from _plain(layer, f"{prefix}{name}.")
        else:
            yield prefix + name, layer


def _hidden(layers: list[tuple[str, nn.Module]]) -> list[_Hidden]:
    hidden: list[_Hidden] = []
    for name, layer in layers:
        if isinstance(layer, nn.Linear):
            hidden.append(_Hidden(layer))
            continue
        what = f"layer {name} ({type(layer).__name__})"
        if not hidden:
            raise ImportRefused(f"{what} comes before the first linear layer")
        current = hidden[-1]
        match layer:
            case nn.BatchNorm1d() | nn.LayerNorm() if current.norm is None and current.activation is None:
                current.norm = layer
            case nn.Dropout() if current.activation is not None:
                # One after the other they are one that keeps what both keep.
                current.p = 1.0 - (1.0 - current.p) * (1.0 - layer.p) if current.p else layer.p
            case _ if (function := _activation(layer)) and current.activation is None and current.p == 0.0:
                current.activation = function
            case _:
                raise ImportRefused(f"{what} stands where none can be: linear, norm, activation, dropout is the order")
    return hidden


def _activation(layer: nn.Module) -> ActivationName | None:
    match layer:
        case nn.ReLU():
            return "relu"
        case nn.GELU(approximate="none"):
            return "gelu"
        case nn.SiLU():
            return "silu"
        case nn.Tanh():
            return "tanh"
        case nn.ELU(alpha=1.0):
            return "elu"
        case nn.LeakyReLU(negative_slope=0.01):
            return "leaky_relu"
        case _:
            return None


def _same(what: str, found: list[ActivationName | None] | list[NormName]) -> str:  # pydantic checks the name
    names = {str(name) for name in found}
    if len(names) > 1:
        raise ImportRefused(f"every hidden layer must have the same {what}, and there are: {', '.join(sorted(names))}")
    (name,) = names
    if name == "None":
        raise ImportRefused("the hidden layers have no activation: they are one linear layer together")
    return name


def _norm_name(norm: nn.Module | None) -> NormName:
    return "none" if norm is None else "batch" if isinstance(norm, nn.BatchNorm1d) else "layer"


def _linear(name: str, layer: nn.Module) -> dict[str, Tensor]:
    assert isinstance(layer, nn.Linear), "only linear layers are handed in. This is a bug."
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return {f"{name}.weight": layer.weight.float(), f"{name}.bias": bias.float()}


def _norm(name: str, norm: nn.BatchNorm1d | nn.LayerNorm) -> dict[str, Tensor]:
    width = norm.num_features if isinstance(norm, nn.BatchNorm1d) else norm.normalized_shape[0]
    weight = torch.ones(width) if norm.weight is None else norm.weight
    bias = torch.zeros(width) if norm.bias is None else norm.bias
    tensors = {f"{name}.weight": weight.float(), f"{name}.bias": bias.float()}
    if isinstance(norm, nn.LayerNorm):
        if norm.eps != NORM_EPSILON:
            raise ImportRefused(f"a LayerNorm has eps {norm.eps:g}; {NORM_EPSILON:g} is what can be")
        return tensors
    if norm.running_mean is None or norm.running_var is None:
        raise ImportRefused("a BatchNorm1d keeps no running statistics, so that it has no eval mode")
    # Another eps is the same as another variance.
    return tensors | {
        f"{name}.running_mean": norm.running_mean.float(),
        f"{name}.running_var": norm.running_var.float() + (norm.eps - NORM_EPSILON),
        f"{name}.num_batches_tracked": torch.tensor(0),
    }
