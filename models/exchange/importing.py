"""From a file of PyTorch's to a version, checked against the original module. Knows nothing of stores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from models.architecture import Architecture, FfStack, Mlp, RegressionHead
from models.architecture import Head as AnyHead
from models.exchange.files import ImportRefused, read_weights
from models.exchange.named import renamed
from models.exchange.sequential import Head, spec_of
from models.exchange.stack import PublishedStack, is_published_stack, stack_of
from models.features import ClassLabel, Feature, Input, Target
from models.manifest import Manifest, seal
from models.mixed import standardise
from models.networks import build
from models.repository import serialise

ROWS = 64
AGREEMENT = 1e-6  # of the largest output, computed in float64


class Examples(BaseModel):
    """Rows in raw units and what the original network gave for them: [rows, inputs], [rows, head outputs]."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    inputs: list[list[float]]
    outputs: list[list[float]]


class Spec(BaseModel):
    """What a file of weights does not say. Everything may be left out that the file or a default can answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    description: str = ""
    architecture: Architecture | None = None
    head: AnyHead | None = None
    inputs: tuple[Input, ...] | None = None
    outputs: tuple[Target, ...] | tuple[ClassLabel, ...] | None = None
    image: tuple[int, int] | None = None
    dropout: Annotated[float, Field(ge=0, le=1)] | None = None
    examples: Examples | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A version ready to be published, and how far from the original it was found to be (None: nothing to compare)."""

    manifest: Manifest
    weights: bytes
    apart: float | None


def read_spec(path: Path | None) -> Spec:
    """The spec in a JSON file; an empty one without a file. Raises ImportRefused."""
    if path is None:
        return Spec()
    try:
        return TypeAdapter(Spec).validate_json(path.read_bytes())
    except OSError as error:
        raise ImportRefused(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ImportRefused(f"{path}: {place} {first['msg']}".replace("  ", " ")) from error


def import_file(path: Path, spec: Spec, name: str, version: str) -> Imported:
    """The version that a file of weights makes with a spec. Raises ImportRefused."""
    found = read_weights(path)
    original: Callable[[Tensor], Tensor] | None
    architecture: Mlp | FfStack
    if isinstance(found, nn.Sequential):
        architecture, tensors = spec_of(found, _head(spec))
        original = found.double().eval()
    elif is_published_stack(found):
        architecture, tensors = stack_of(found, _head(spec), spec.dropout or 0.0, spec.image)
        original = _published(architecture, found)
    else:
        if spec.architecture is None:
            raise ImportRefused(
                f"{path} holds tensors only: say which network they are of, by an architecture in --spec"
            )
        architecture, original = spec.architecture, None
        tensors = renamed(found, architecture, ordered=path.suffix != ".safetensors")
    if spec.architecture is not None and spec.architecture != architecture:
        raise ImportRefused("the architecture in the spec is not that of the file")
    if any(not bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ImportRefused(f"{path} holds NaN or infinity")
    return _sealed(path, spec, architecture, tensors, original, name, version)


def _sealed(
    path: Path,
    spec: Spec,
    architecture: Architecture,
    tensors: dict[str, Tensor],
    original: Callable[[Tensor], Tensor] | None,
    name: str,
    version: str,
) -> Imported:
    inputs, outputs = spec.inputs or _inputs(architecture), spec.outputs or _outputs(architecture.head)
    network = build(architecture)
    network.load_state_dict(tensors)
    network.double().eval()
    apart = None if original is None else _apart(network, original, architecture.inputs)
    if spec.examples is not None:
        apart = max(apart or 0.0, _apart_from(network, spec.examples, inputs))
    if apart is not None and not apart <= AGREEMENT:
        raise ImportRefused(f"the network does not answer as the original does: they are {apart:.2g} apart")
    weights = serialise(tensors)
    try:
        manifest = seal(
            name=name,
            version=version,
            task=architecture.head.kind,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            description=spec.description,
            inputs=inputs,
            outputs=outputs,
            architecture=architecture,
            provenance={
                "imported": f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
                "apart": apart,
            },
        )
    except ValidationError as error:
        raise ImportRefused(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")) from error
    return Imported(manifest, weights, apart)


def _head(spec: Spec) -> Head:
    head = spec.head or (spec.architecture.head if spec.architecture else None)
    if head is None:
        raise ImportRefused(
            "a file does not say what its outputs mean: --classes N, --outputs N, or a head in --spec such as "
            '{"head": {"kind": "classification", "classes": 3}}'
        )
    return head


def _published(architecture: Architecture, tensors: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The network of a checkpoint in its own layout, as a function of flat images."""
    assert isinstance(architecture, FfStack), "only stacks have a published layout. This is a bug."
    module = PublishedStack(architecture)
    laid_out = {name: tensor for name, tensor in tensors.items() if name != "pos_embed"}
    if "pos_embed" in tensors:
        of_class, places = tensors["pos_embed"][:, :1], tensors["pos_embed"][:, 1:]
        laid_out["pos_encoding.cls_pos_embed"] = of_class
        laid_out["pos_encoding.pos_embed"] = places.mT.reshape(1, -1, *architecture.grid)
    try:
        module.load_state_dict(laid_out)
    except RuntimeError as error:
        raise ImportRefused(
            f"the checkpoint is not in the published layout: {str(error).splitlines()[-1].strip()}"
        ) from error
    module.double().eval()
    height, width = architecture.image[:2]
    return lambda rows: module(rows.view(-1, height, width, architecture.channels).permute(0, 3, 1, 2))


def _apart(network: nn.Module, original: Callable[[Tensor], Tensor], inputs: int) -> float:
    """The largest difference on random rows, beside the largest output."""
    rows = torch.from_numpy(np.random.Generator(np.random.PCG64(0)).standard_normal((ROWS, inputs)))
    with torch.no_grad():
        return _difference(network(rows), original(rows))


def _apart_from(network: nn.Module, examples: Examples, inputs: tuple[Input, ...]) -> float:
    try:
        rows = torch.from_numpy(standardise(np.array(examples.inputs, np.float64), inputs))
        with torch.no_grad():
            # Examples come from a network in float32.
            return max(0.0, _difference(network(rows.double()), torch.tensor(examples.outputs).double()) - 1e-5)
    except (ValueError, RuntimeError) as error:
        raise ImportRefused(f"the examples do not fit the network: {str(error).splitlines()[0]}") from error


def _difference(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        raise ImportRefused(f"the outputs have the shape {list(ours.shape)}, the original's {list(theirs.shape)}")
    return float((ours - theirs).abs().max() / max(1.0, float(theirs.abs().max())))


def _inputs(architecture: Architecture) -> tuple[Input, ...]:
    """Names for inputs of which nothing is known: they are taken as they come."""
    if isinstance(architecture, FfStack):
        height, width = architecture.image[:2]
        colours = [f"_{channel}" for channel in range(architecture.channels)] if architecture.channels > 1 else [""]
        names = [f"pixel_{y}_{x}{colour}" for y in range(height) for x in range(width) for colour in colours]
    else:
        names = [f"x{number}" for number in range(1, architecture.inputs + 1)]
    return tuple(Feature(name=name, range=None) for name in names)


def _outputs(head: Any) -> tuple[Target, ...] | tuple[ClassLabel, ...]:
    if isinstance(head, RegressionHead):
        return tuple(Target(name=f"y{number}", mean=0.0, scale=1.0) for number in range(1, head.outputs + 1))
    return tuple(ClassLabel(name=str(number)) for number in range(head.classes))
