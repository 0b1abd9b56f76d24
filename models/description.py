"""What a network is made of and what it costs, read off its architecture alone: no weights are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from models.architecture import Architecture
from models.layers import (
    Activation,
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
    dropout_sites,
    flops,
    parameter_count,
    walk,
)


@dataclass(frozen=True, slots=True)
class LayerLine:
    """One layer: its name, what it is, and its sizes where they apply."""

    name: str
    kind: str
    inputs: int | None
    outputs: int | None
    parameters: int
    p: float | None

    def as_row(self) -> tuple[Any, ...]:
        """The values in the order of the table's columns."""
        return self.name, self.kind, self.inputs, self.outputs, self.parameters or None, self.p


@dataclass(frozen=True, slots=True)
class Description:
    """A network's layers and totals.

    `flops_per_row` is one row through the full network; `flops_per_sample` one row through one thinned network, not
    counting what lies before the first active dropout: that is evaluated once for all samples.
    """

    layers: tuple[LayerLine, ...]
    sites: tuple[Dropout, ...]
    parameters: int
    flops_per_row: int
    flops_per_sample: int

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "parameters": self.parameters,
            "flops_per_row": self.flops_per_row,
            "flops_per_sample": self.flops_per_sample,
            "dropout_sites": [{"name": site.name, "width": site.width, "p": site.p} for site in self.sites],
            "layers": [asdict(layer) for layer in self.layers],
        }


def describe_architecture(architecture: Architecture) -> Description:
    """Counts a spec's layers, parameters and operations."""
    layers = architecture.layers()
    evaluated = tuple(_as_evaluated(layers))
    first = next((i for i, layer in enumerate(evaluated) if isinstance(layer, Dropout) and layer.p > 0), len(evaluated))
    lines = []
    for name, layer in walk(layers):
        match layer:
            case Linear(inputs=inputs, outputs=outputs):
                line = LayerLine(name, "linear", inputs, outputs, parameter_count(layer), None)
            case Norm(kind=kind, width=width):
                line = LayerLine(name, f"{kind} norm", width, width, parameter_count(layer), None)
            case Activation(function=function, width=width):
                line = LayerLine(name, function, width, width, 0, None)
            case Dropout(width=width, p=p):
                line = LayerLine(name, "dropout", width, width, 0, p)
            case Block(residual=residual):
                line = LayerLine(name, "residual block" if residual else "block", None, None, 0, None)
            case Patches(height=height, width=width, channels=channels):
                numbers = height * width * channels
                line = LayerLine(name, f"{layer.tokens} patches", numbers, numbers, 0, None)
            case ClassToken(tokens=tokens, width=width):
                line = LayerLine(name, "class token", (tokens - 1) * width, tokens * width, width, None)
            case Positions(tokens=tokens, width=width):
                line = LayerLine(name, "positions", tokens * width, tokens * width, parameter_count(layer), None)
            case Transpose(rows=rows, columns=columns):
                line = LayerLine(name, "transpose", rows * columns, rows * columns, 0, None)
            case FirstToken(tokens=tokens, width=width):
                line = LayerLine(name, "first token", tokens * width, width, 0, None)
        lines.append(line)
    return Description(
        layers=tuple(lines),
        sites=dropout_sites(layers),
        parameters=sum(map(parameter_count, evaluated)),
        flops_per_row=sum(map(flops, evaluated)),
        flops_per_sample=sum(map(flops, evaluated[first:])),
    )


def _as_evaluated(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """Every layer in order of evaluation; a block's own addition comes after what it holds."""
    for layer in layers:
        if isinstance(layer, Block):
            yield from _as_evaluated(layer.layers)
        yield layer
