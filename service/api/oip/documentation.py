"""What /openapi.json says of all that is posted to the protocol, with examples that work when pasted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.api.documentation import MEANINGS, REFERENCE, collect, parameters
from service.api.oip import schemas

_ROWS = {
    "name": "inputs",
    "shape": [1, 10],
    "datatype": "FP64",
    "data": [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02],
}
_INFER = {
    "prediction": {"summary": "The full network, all outputs", "value": {"inputs": [_ROWS]}},
    "sampling": {
        "summary": "A hundred thinned networks, repeatable; three outputs",
        "value": {
            "id": "mine",
            "parameters": {"samples": 100, "seed": 7, "quantiles": "0.05,0.5,0.95"},
            "inputs": [_ROWS],
            "outputs": [{"name": "mean"}, {"name": "std"}, {"name": "quantiles"}],
        },
    },
    "nested": {
        "summary": "Nested data, a seed in digits, the draws themselves",
        "value": {
            "parameters": {"samples": 4, "seed": "7", "draws": True},
            "inputs": [{**_ROWS, "data": [_ROWS["data"]]}],
        },
    },
}
_NOTHING = {"summary": "An empty object; the body may be left out, too", "value": {}}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "example": "diabetes"}


def _errors(*statuses: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REFERENCE.format(model="ProtocolError")}}}
    meanings = {**MEANINGS, 400: "Unreadable or invalid"}
    return {str(status): {"description": meanings[status], "content": content} for status in statuses}


def _taking(kind: type, examples: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model=kind.__name__)}
    return {"required": required, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _infer(versioned: bool) -> dict[str, Any]:
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    taken = _taking(schemas.InferRequest, _INFER, required=True)
    answer = {"application/json": {"schema": {"$ref": REFERENCE.format(model="InferResponse")}}, **octets}
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer", "minimum": 1},
        "description": "Bytes of JSON in the body, where the bytes of tensors follow it.",
    }
    return {
        "tags": [_TAG],
        "summary": "Predict, or sample where seed or samples are given" + (", with one version" if versioned else ""),
        "operationId": f"infer{'_version' if versioned else ''}",
        "parameters": [*parameters(versioned), length],
        "requestBody": {**taken, "content": {**taken["content"], **octets}},
        "responses": {
            "200": {"description": "The answer", "content": answer},
            "304": {"description": "The answer is the one that the caller has"},
            **_errors(400, 404, 409, 413, 415, 503, 504),
        },
    }


def _index() -> dict[str, Any]:
    listed = {"type": "array", "items": {"$ref": REFERENCE.format(model="IndexEntry")}}
    examples = {"all": _NOTHING, "ready": {"summary": "Only what is served", "value": {"ready": True}}}
    return {
        "tags": [_TAG],
        "summary": "Every version in the store and in service",
        "operationId": "repository_index",
        "requestBody": _taking(schemas.IndexRequest, examples, required=False),
        "responses": {
            "200": {"description": "The versions", "content": {"application/json": {"schema": listed}}},
            **_errors(400, 413, 415),
        },
    }


def _change(verb: str, summary: str) -> dict[str, Any]:
    return {
        "tags": [_TAG],
        "summary": summary,
        "operationId": f"repository_{verb}",
        "parameters": [_NAME],
        "requestBody": _taking(schemas.RepositoryRequest, {"nothing": _NOTHING}, required=False),
        "responses": {
            "200": {"description": "Done, in every worker process"},
            **_errors(400, 403, 404, 409, 413, 415, 503),
        },
    }


def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in (
        schemas.InferRequest,
        schemas.InferResponse,
        schemas.IndexRequest,
        schemas.IndexEntry,
        schemas.RepositoryRequest,
        schemas.ProtocolError,
    ):
        collect(found, kind)
    return found


_TAG = "open inference protocol"
PATHS: Mapping[str, Any] = {
    "/v2/models/{name}/infer": {"post": _infer(versioned=False)},
    "/v2/models/{name}/versions/{version}/infer": {"post": _infer(versioned=True)},
    "/v2/repository/index": {"post": _index()},
    "/v2/repository/models/{name}/unload": {"post": _change("unload", "Serve a model no longer")},
    "/v2/repository/models/{name}/load": {"post": _change("load", "Serve what the store has of a model by now")},
}
SCHEMAS: Mapping[str, Any] = _schemas()
