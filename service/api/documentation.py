"""What /openapi.json says of the hot routes, which FastAPI does not see, with examples that work when pasted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from penumbra import schemas

REFERENCE = "#/components/schemas/{model}"

_DIABETES = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]
_EXAMPLES: dict[str, dict[str, Any]] = {
    "predict": {
        "row": {"summary": "One row, numbers in the manifest's order", "value": {"inputs": [_DIABETES]}},
    },
    "sample": {
        "seeded": {
            "summary": "A hundred thinned networks, repeatable",
            "value": {"inputs": [_DIABETES], "samples": 100, "seed": 7},
        },
        "named": {
            "summary": "Named inputs, quantiles, and the draws themselves",
            "value": {
                "inputs": [
                    dict(zip(("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"), _DIABETES, strict=True))
                ],
                "samples": 8,
                "seed": 7,
                "quantiles": [0.05, 0.5, 0.95],
                "return_draws": True,
            },
        },
        "unseeded": {"summary": "The seed is drawn and returned", "value": {"inputs": [_DIABETES]}},
        "moments": {
            "summary": "Mean and spread in one pass: no samples, no seed, approximate",
            "value": {"inputs": [_DIABETES], "method": "moments"},
        },
        "target": {
            "summary": "As many samples as it takes to know the mean to half a unit",
            "value": {
                "inputs": [_DIABETES],
                "samples": {"target_stderr": 0.5, "min": 100, "max": 10_000},
                "seed": 7,
            },
        },
    },
    "sample/stream": {
        "seeded": {
            "summary": "A thousand thinned networks, told as they come",
            "value": {"inputs": [_DIABETES], "samples": 1000, "seed": 7},
        },
    },
}
MEANINGS = {
    400: "Not JSON, or a bad header",
    401: "No key, or one that is not known, where keys are asked for",
    403: "Not for this caller",
    404: "Unknown model or version",
    409: "The model has no active dropout, or no members, for the asked method",
    413: "Body too large",
    415: "Body is not JSON, or is compressed",
    422: "Well-formed but invalid",
    429: "Over the key's rate, or over its share of a full queue",
    503: "Queue full, memory short, shutting down, or the model is not ready",
    504: "The deadline passed while queued",
}
HEADERS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "X-Deadline-Ms",
        {"type": "integer", "minimum": 1},
        "Give up when this many milliseconds have passed in the queue.",
    ),
    ("X-Request-ID", {"type": "string"}, "Returned if it is sane."),
    ("If-None-Match", {"type": "string"}, "A tag of an earlier answer: 304 if this one would be the same."),
)
_PREDICT_STATUSES = (400, 404, 413, 415, 422, 503, 504)
_SAMPLE_STATUSES = (400, 404, 409, 413, 415, 422, 503, 504)
_OPERATIONS: dict[str, tuple[str, type[BaseModel], type[BaseModel]]] = {
    "predict": (
        "Predict: the full network's deterministic answer",
        schemas.RegressionPrediction,
        schemas.ClassPrediction,
    ),
    "sample": ("Sample: a committee's answer and how far to trust it", schemas.RegressionSample, schemas.ClassSample),
}
_STREAM = (
    "Server-sent events: `running` after each block of samples, with the answer that the samples so far give and how "
    "far it has come; then `answer`, whose data are the very body that `sample` gives. Where something goes wrong "
    "after the first block, the last event is a `problem`."
)
# Of each of them: for streams of events OpenAPI 3.1 leaves it open what a schema is of, and readers take it so.
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["running", "answer", "problem"]},
        "data": {"type": "string", "description": "JSON, without line breaks."},
    },
}


def PROBLEMS(*statuses: int) -> dict[int | str, dict[str, Any]]:  # noqa: N802 - reads as a table where it is used
    """The problem responses of an operation."""
    reference = {"schema": {"$ref": REFERENCE.format(model="Problem")}}
    return {
        status: {"description": MEANINGS[status], "content": {"application/problem+json": reference}}
        for status in statuses
    }


def install(app: FastAPI, paths: Mapping[str, Any], components: Mapping[str, Any]) -> None:
    """Makes /openapi.json complete: the native hot routes, and those of other codecs that are given."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=app.openapi_tags
            )
            _drop_unused_422(document)
            document["paths"].update({**_paths(), **paths})
            document["components"]["schemas"].update({**_schemas(), **components})
            _add_keys(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_unused_422(document: dict[str, Any]) -> None:
    """FastAPI says of every path with parameters that it may answer 422, in a form of its own: none here does."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _add_keys(document: dict[str, Any]) -> None:
    """Where keys are asked for, every path but health's may answer that the one that was sent will not do."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        if "/health/" in path:
            continue
        for operation in operations.values():
            operation["security"] = [{}, {"bearer": []}, {"key": []}]
            protocol = path.startswith("/v2")
            reference = {"schema": {"$ref": REFERENCE.format(model="ProtocolError" if protocol else "Problem")}}
            for status in (400, 401, 403, 429):
                content = {"application/json" if protocol else "application/problem+json": reference}
                answer = {"description": MEANINGS[status], "content": content}
                operation["responses"].setdefault(str(status), answer)


def _paths() -> dict[str, Any]:
    return {
        f"/v1/models/{{name}}{version}/{verb}": {"post": _operation(verb, versioned=bool(version))}
        for verb in _EXAMPLES
        for version in ("", "/versions/{version}")
    }


def _operation(verb: str, *, versioned: bool) -> dict[str, Any]:
    if verb in _OPERATIONS:
        summary, *answers = _OPERATIONS[verb]
        body = {"anyOf": [{"$ref": REFERENCE.format(model=model.__name__)} for model in answers]}
        answer = {"description": "The answer", "content": {"application/json": {"schema": body}}}
    else:
        summary = "Stream: a committee's answer as it grows"
        answer = {"description": _STREAM, "content": {"text/event-stream": {"schema": _EVENT}}}
    request, statuses = (
        ("PredictRequest", _PREDICT_STATUSES) if verb == "predict" else ("SampleRequest", _SAMPLE_STATUSES)
    )
    return {
        "tags": ["inference"],
        "summary": summary + (", of one version" if versioned else ""),
        "operationId": f"{verb.rpartition('/')[2]}{'_version' if versioned else ''}",
        "parameters": parameters(versioned),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": REFERENCE.format(model=request)},
                    "examples": _EXAMPLES[verb],
                }
            },
        },
        "responses": {
            "200": answer,
            "304": {"description": "The answer is the one that the caller has"},
            **{str(status): response for status, response in PROBLEMS(*statuses).items()},
        },
    }


def parameters(versioned: bool) -> list[dict[str, Any]]:
    """What a hot route takes from its path, and the headers that it looks at."""
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}
        for name, example in (("name", "diabetes"), ("version", "1"))[: 1 + versioned]
    ]
    return in_path + [
        {"name": name, "in": "header", "schema": schema, "description": description}
        for name, schema, description in HEADERS
    ]


def _schemas() -> dict[str, Any]:
    answers: list[type[BaseModel]] = [schemas.Problem]
    for _, regression, classification in _OPERATIONS.values():
        answers += [regression, classification]
    found: dict[str, Any] = {}
    for model in answers:
        collect(found, model)
    for request in (schemas.PredictRequest, schemas.SampleRequest):
        collect(found, request)
    return found


def collect(found: dict[str, Any], kind: Any) -> None:
    """Adds the schema of a type by its name, and those that it refers to."""
    schema = TypeAdapter(kind).json_schema(ref_template=REFERENCE, mode="serialization")
    found.update(schema.pop("$defs", {}))
    found[kind.__name__] = schema
