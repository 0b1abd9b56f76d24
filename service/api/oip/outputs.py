"""Answers as named tensors: which there are, which are asked for, and the bytes of a response.

The names are those of the native answer; what is nested there stands in a row here. What is undefined has no tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.architecture import RegressionHead
from service.api.encoding import encode
from service.api.oip.tensors import Tensor
from service.caching.memory import Written
from service.errors import InvalidRequest
from service.jobs import Sampling
from service.served import ServedModel

# Rows, samples and quantiles: as many as are asked for.
ANY = -1
_PREDICTED = {"regression": ("mean", "aleatoric_std"), "classification": ("labels", "probabilities")}
# In the order of the native answer, and whether there is a number for each output or one for each row.
_NUMBERS = {
    "regression": {
        "mean": True,
        "std": True,
        "epistemic_std": True,
        "aleatoric_std": True,
        "stderr": True,
        "lower": True,
        "upper": True,
    },
    "classification": {
        "probabilities": True,
        "std": True,
        "stderr": True,
        "predictive_entropy": False,
        "expected_entropy": False,
        "mutual_information": False,
        "variation_ratio": False,
        "votes": True,
        "prediction_set": True,
    },
}


class Kind(NamedTuple):
    """A tensor that a model may answer with."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Wanted(NamedTuple):
    """A tensor that is asked for, and how it is to be written."""

    name: str
    binary: bool


def kinds(model: ServedModel) -> list[Kind]:
    """All that this model ever answers with."""
    manifest = model.manifest
    task, width = manifest.task, len(manifest.outputs)
    head = manifest.architecture.head
    calibrated = bool(manifest.calibration.all_conformal)
    noisy = manifest.noise_variance is not None or (isinstance(head, RegressionHead) and head.variance)
    return [
        *([Kind("labels", "BYTES", (ANY,))] if task == "classification" else []),
        *(
            Kind(name, "FP64", (ANY, width) if for_each else (ANY,))
            for name, for_each in _NUMBERS[task].items()
            if (noisy or name != "aleatoric_std") and (calibrated or name != "prediction_set")
        ),
        *([Kind("quantiles", "FP64", (ANY, ANY, width))] if task == "regression" else []),
        Kind("draws", "FP64", (ANY, ANY, width)),
    ]


def check(wanted: Sequence[Wanted], model: ServedModel, sampling: Sampling | None) -> None:
    """Refuses what this request can't be answered with. Raises InvalidRequest."""
    if not wanted:
        return
    names = [one.name for one in wanted]
    known = [kind.name for kind in kinds(model)]
    if not set(names) <= set(known):
        raise InvalidRequest(
            [("outputs", f"has a name that this model has no output for; there are {', '.join(known)}")]
        )
    if len(set(names)) != len(names):
        raise InvalidRequest([("outputs", "has the same name twice")])
    for name in names:
        if sampling is None and name not in _PREDICTED[model.manifest.task]:
            raise InvalidRequest([("outputs", f"{name} comes of sampling: ask for it with parameters seed or samples")])
        if sampling and (
            (name == "quantiles" and not sampling.quantiles) or (name == "draws" and not sampling.return_draws)
        ):
            raise InvalidRequest([("outputs", f"{name} must be asked for with the parameter of that name, too")])


def tensors(fields: Mapping[str, Any], sampling: Sampling | None) -> list[Tensor]:
    """Native fields, see `api.fields`, as tensors; those that are undefined are left out."""
    named: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "interval":
            named |= {"lower": value["lower"], "upper": value["upper"]}
        elif name == "quantiles" and sampling:
            in_order = [value[repr(probability)] for probability in sampling.quantiles]
            named[name] = None if in_order[0] is None else np.stack(in_order)
        else:
            named[name] = value
    return [Tensor(name, values) for name, values in named.items() if values is not None]


def selected(tensors: Sequence[Tensor], wanted: Sequence[Wanted], *, binary: bool) -> list[tuple[Tensor, bool]]:
    """The tensors that are asked for, and whether as bytes; all of them, where none is named.

    Raises InvalidRequest where one is undefined.
    """
    if not wanted:
        return [(tensor, binary) for tensor in tensors]
    by_name = {tensor.name: tensor for tensor in tensors}
    for one in wanted:
        if one.name not in by_name:
            raise InvalidRequest([("outputs", f"{one.name} is undefined for this request")])
    return [(by_name[one.name], one.binary) for one in wanted]


def parameters(model: ServedModel, sampling: Sampling | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the answer says of itself: the digest and, of a sampling, the options that took effect."""
    digest = {"digest": model.manifest.digest}
    if sampling is None:
        return digest
    committee, interval = sampling.committee, fields.get("interval")
    sampled = {"seed": committee.seed, "first_sample": committee.first_sample, "samples": committee.samples}
    return {
        **digest,
        **(sampled if sampling.method != "moments" else {"approximate": True}),
        "method": sampling.method,
        **({"interval": interval["level"], "interval_kind": interval["kind"]} if interval else {}),
    }


async def written(head: Mapping[str, Any], chosen: Sequence[tuple[Tensor, bool]]) -> Written:
    """The body with these tensors."""
    listed, raw = [], []
    for tensor, binary in chosen:
        one: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
        if binary:
            raw.append(tensor.raw())
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            one["data"] = tensor.flat()
        listed.append(one)
    text = await encode({**head, "outputs": listed})
    return Written(b"".join([text, *raw]), len(text)) if raw else Written(text)
