"""A version → a Python file and its weights that need PyTorch and nothing of ours.

The file has the source of the modules that the network consists of, copied from `networks`, so that both can't differ.
Knows nothing of stores.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import networks
from models.architecture import Architecture
from models.layers import Block, Layer
from models.manifest import Manifest

_FILE = '''"""{title}

Written by Penumbra. Needs PyTorch alone.

    module = load()                     # in eval mode: the full network
    module(encode([row]))               # head outputs, [rows, {width}]
    answer([row])                       # the same in raw units: {meaning}
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

INPUTS = json.loads({inputs!r})
OUTPUTS = json.loads({outputs!r})
{sources}

def network() -> nn.Sequential:
    """The network, freshly initialised."""
    return {network}


def load(folder: Path = Path(__file__).parent) -> nn.Sequential:
    """The network with its weights, in eval mode."""
    module = network()
    module.load_state_dict(torch.load(folder / {weights!r}, weights_only=True))
    return module.eval()


def encode(rows: list) -> Tensor:
    """Rows, lists in the order of INPUTS or dicts by their names → what the network sees, [rows, {seen}]."""
    return torch.tensor([[number for each, value in _pairs(row) for number in _seen(each, value)] for row in rows])


def _pairs(row):
    return [(each, row[each["name"]] if isinstance(row, dict) else row[i]) for i, each in enumerate(INPUTS)]


def _seen(each: dict, value) -> list[float]:
    if each["kind"] == "category":
        return [float(value not in each["categories"]), *(float(value == name) for name in each["categories"])]
    absent = [float(value is None)] if each.get("missing") else []
    return [0.0 if value is None else (float(value) - each["mean"]) / each["scale"], *absent]


def answer(rows: list) -> Tensor:
    """What the full network says of rows, in raw units: {meaning}."""
    with torch.no_grad():
        outputs = load()(encode(rows))
    {answer}
'''
_CLASSES = "return outputs.softmax(dim=1)"
_NUMBERS = """mean, scale = (torch.tensor([each[part] for each in OUTPUTS]) for part in ("mean", "scale"))
    return outputs[:, : len(OUTPUTS)] * scale + mean"""


def export(manifest: Manifest, tensors: Mapping[str, Tensor], path: Path) -> Path:
    """Writes `path`, a Python file, and the weights beside it; the path of the weights."""
    weights = path.with_suffix(".pt")
    classes = manifest.task == "classification"
    path.write_text(
        _FILE.format(
            title=f"{manifest.name} version {manifest.version}, {manifest.digest}.",
            width=manifest.architecture.head.width,
            seen=manifest.architecture.inputs,
            meaning="probabilities of OUTPUTS" if classes else "the mean of each of OUTPUTS",
            inputs=json.dumps([each.model_dump(mode="json") for each in manifest.inputs]),
            outputs=json.dumps([each.model_dump(mode="json") for each in manifest.outputs]),
            sources=_sources(manifest.architecture),
            network=_expression(manifest.architecture.layers()),
            weights=weights.name,
            answer=_CLASSES if classes else _NUMBERS,
        ),
        encoding="utf-8",
    )
    torch.save(dict(tensors), weights)
    return weights


def _sources(architecture: Architecture) -> str:
    """The source of every module of ours that the network has."""
    with torch.device("meta"):
        ours = {type(module) for module in networks.build(architecture).modules()}
    parts: list[Any] = sorted(
        (one for one in ours if one.__module__ == networks.__name__), key=lambda one: one.__name__
    )
    if networks.AddPositions in parts:
        parts.append(networks.resampled_positions)
    return "".join(f"\n\n{inspect.getsource(part).rstrip()}\n" for part in parts)


def _expression(layers: tuple[Layer, ...], indent: int = 4, kind: str = "nn.Sequential") -> str:
    """Python for a sequence of layers."""
    pad = " " * indent
    inner = "".join(f'{pad}    ("{layer.name}", {_module(layer, indent + 4)}),\n' for layer in layers)
    return f"{kind}(OrderedDict([\n{inner}{pad}]))"


def _module(layer: Layer, indent: int) -> str:
    if isinstance(layer, Block):
        return _expression(layer.layers, indent, "ResidualBlock" if layer.residual else "nn.Sequential")
    with torch.device("meta"):
        module = networks.module_of(layer)
    if type(module).__module__ == networks.__name__:
        return f"{type(module).__name__}({', '.join(map(repr, networks.arguments_of(layer)))})"
    # PyTorch's layers print as they are made, but for the shape of a norm, which is a tuple as it should be.
    return f"nn.{module!r}"
