"""Requests and answers as bytes: the Open Inference Protocol, for tables that would be large as JSON.

The numbers are those of the native answer, to the bit. Knows nothing of retries, chunks or connections.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import compress
from typing import Any, TypeVar

from pydantic import BaseModel

from penumbra import arrays
from penumbra.answers import (
    ClassPrediction,
    ClassSample,
    Interval,
    Prediction,
    RegressionPrediction,
    RegressionSample,
    Sample,
)
from penumbra.rows import Rows
from penumbra.schemas import ModelReference

LENGTH_HEADER = "Inference-Header-Content-Length"
# Bytes are little-endian; elsewhere everything is JSON.
POSSIBLE = sys.byteorder == "little"
_DATATYPE = "FP64"
# Native option → parameter.
_PARAMETERS = {"return_draws": "draws"}
_Kind = TypeVar("_Kind", RegressionPrediction, ClassPrediction, RegressionSample, ClassSample)


class _Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any]


class _Head(BaseModel):
    model_name: str
    model_version: str
    parameters: dict[str, Any]
    outputs: list[_Tensor]


def spell(rows: Rows, options: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request; no options: a prediction. Options are the native ones."""
    raw = rows.flat.tobytes()
    parameters = {_PARAMETERS.get(name, name): value for name, value in options.items()}
    if "quantiles" in parameters:
        parameters["quantiles"] = ",".join(repr(float(each)) for each in parameters["quantiles"])
    tensor = {
        "name": "inputs",
        "shape": [rows.count, rows.width],
        "datatype": _DATATYPE,
        "parameters": {"binary_data_size": len(raw)},
    }
    head = arrays.as_json({"parameters": {**parameters, "binary_data_output": True}, "inputs": [tensor]})
    return head + raw, {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(head))}


def read(
    body: bytes, head_length: str, quantiles: Sequence[float] = (), set_labels: Sequence[str] = ()
) -> Prediction | Sample:
    """The answer that a body of JSON and bytes is; `quantiles` are the ones that were asked for.

    `set_labels` are what the model's prediction sets are made of, if it has any. Raises ValueError where it isn't one.
    """
    head = _Head.model_validate_json(body[: int(head_length)])
    raw = memoryview(body)[int(head_length) :]
    tensors: dict[str, Any] = {}
    for tensor in head.outputs:
        size = int(tensor.parameters["binary_data_size"])
        texts = tensor.datatype == "BYTES"
        if size > len(raw) or not (texts or size == 8 * math.prod(tensor.shape)):
            raise ValueError("a tensor has fewer bytes than it says")
        tensors[tensor.name] = _texts(raw[:size]) if texts else arrays.from_bytes(raw[:size], tuple(tensor.shape))
        raw = raw[size:]
    said = head.parameters
    common = {"model": ModelReference(name=head.model_name, version=head.model_version, digest=said["digest"])}
    if "method" not in said:
        values = common | tensors
        return _made(ClassPrediction, values) if "labels" in tensors else _made(RegressionPrediction, values)
    told = ("seed", "first_sample", "samples", "method", "approximate", "converged")
    common |= {"samples": 0} | {name: said[name] for name in told if name in said}
    if "labels" in tensors:
        if "votes" in tensors:
            tensors["votes"] = arrays.whole(tensors["votes"])
        if "prediction_set" in tensors:
            tensors["prediction_set"] = [
                list(compress(set_labels, row)) for row in arrays.nested(tensors["prediction_set"])
            ]
        return _made(ClassSample, common | tensors | {"calibrated": bool(set_labels)})
    tensors["interval"] = Interval(
        said["interval"], said["interval_kind"], tensors.pop("lower", None), tensors.pop("upper", None)
    )
    if quantiles:
        found = tensors.get("quantiles")
        tensors["quantiles"] = {
            float(each): None if found is None else found[place] for place, each in enumerate(quantiles)
        }
    return _made(RegressionSample, common | tensors)


def _made(kind: type[_Kind], values: Mapping[str, Any]) -> _Kind:
    """An answer; what it has no tensor for is undefined, and tensors that it doesn't know are left out."""
    known: dict[str, Any] = {field.name: values.get(field.name) for field in fields(kind)}
    return kind(**known)


def _texts(raw: memoryview) -> list[str]:
    """Texts, each after its length in four bytes."""
    texts, place = [], 0
    while place < len(raw):
        start = place + 4
        place = start + int.from_bytes(raw[place:start], "little")
        texts.append(str(raw[start:place], "utf-8"))
    return texts
