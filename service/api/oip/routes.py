"""The protocol's addresses. Handlers are straight lines; everything they do has a room of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import JSONResponse

from service.api import fields
from service.api.answers import JSON, TEXT_LENGTH, as_told, not_modified
from service.api.edge import INLINE_BYTES, Answer, Exchange
from service.api.hot import Handler
from service.api.oip import metadata, orders, outputs, requests
from service.api.oip.requests import Asked
from service.api.oip.schemas import (
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ProtocolError,
    ServerLive,
    ServerMetadata,
    ServerReady,
    Statistics,
)
from service.caching.memory import Written
from service.engine.uncertainty import ClassificationSummary
from service.errors import Forbidden
from service.inference import Inference
from service.jobs import Prediction, Sampled
from service.served import ServedModel

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

Name = Annotated[str, Path(examples=["diabetes"])]
Version = Annotated[str, Path(examples=["1"])]

# A text whose length has few digits, and up to so many bytes with it, are decoded in a millisecond.
_SHORT = 5
_INLINE_BINARY = 1 << 20
_LARGEST_ORDER = 1 << 16  # bytes of a request to the repository
_UNKNOWN = {"model": ProtocolError, "description": "Unknown model or version"}


async def infer(exchange: Exchange) -> Answer:
    """A prediction, or where seed or samples are among the parameters, a sampling."""
    inference, settings = exchange.state.inference, exchange.state.settings
    model = exchange.model = inference.resolve(**exchange.parameters)
    length = exchange.header(TEXT_LENGTH)
    decode = partial(requests.read, model, settings, length)
    inline = _INLINE_BINARY if length and len(length) <= _SHORT else INLINE_BYTES
    asked = await exchange.read_bytes(settings.max_body_bytes, decode, inline=inline)
    exchange.asked = asked.rows if asked.sampling is None else asked.sampling
    patience = exchange.patience(asked.timeout_ms or settings.deadline_ms)
    if asked.tag and exchange.already_has(asked.tag):
        return not_modified(asked.tag)
    write = partial(_written, model, asked)
    told = await inference.tell(model, exchange.asked, asked.tag, write, patience, exchange.gone, exchange.caller)
    return as_told(told, exchange, asked.tag)


async def index(exchange: Exchange) -> Answer:
    """Every version in the store and in service; the body may be empty."""
    only_ready = await exchange.read_bytes(_LARGEST_ORDER, orders.index)
    entries = await exchange.state.inference.catalogue.index()
    seen = (entry for entry in entries if exchange.sees(entry.name))
    listed = metadata.index(entry for entry in seen if entry.ready or not only_ready)
    return Answer(200, [JSON], orjson.dumps(listed))


async def load(exchange: Exchange) -> Answer:
    """Serves what the store has of a model by now."""
    await _may_manage(exchange)
    await exchange.state.inference.catalogue.load(**exchange.parameters)
    return Answer(200, [])


async def unload(exchange: Exchange) -> Answer:
    """Serves a model no longer."""
    await _may_manage(exchange)
    await exchange.state.inference.catalogue.unload(**exchange.parameters)
    return Answer(200, [])


async def _may_manage(exchange: Exchange) -> None:
    """Reads the order, which must be one that can be followed, from somebody who may give it."""
    settings = exchange.state.settings
    if settings.answers_anybody and not settings.loopback:
        raise Forbidden("models are loaded and unloaded only on loopback, or with a key of scope admin")
    await exchange.read_bytes(_LARGEST_ORDER, orders.change)


# All that is posted to; `oip.documentation` spells it out for OpenAPI.
HOT: Mapping[str, Handler] = {
    **{f"/v2/models/{{name}}{version}/infer": infer for version in ("", "/versions/{version}")},
    "/v2/repository/index": index,
    "/v2/repository/models/{name}/load": load,
    "/v2/repository/models/{name}/unload": unload,
}


@router.get("", response_model=ServerMetadata)
async def describe_server() -> Any:
    """What this server is, and which extensions of the protocol it speaks."""
    return metadata.server()


@router.get("/health/live", response_model=ServerLive)
async def server_live() -> Any:
    """The process answers."""
    return {"live": True}


@router.get("/health/ready", response_model=ServerReady, responses={503: {"model": ServerReady}})
async def server_ready(request: Request) -> Any:
    """The models are loaded and requests are taken."""
    is_ready = bool(request.app.state.ready)
    return JSONResponse({"live": True, "ready": is_ready}, 200 if is_ready else 503)


# Before the models: none of them can be called stats here.
@router.get("/models/stats", response_model=Statistics)
async def count_all(request: Request) -> Any:
    """What the worker process that answers has counted of every version in service."""
    inference = _inference(request)
    sees, models = request.state.caller.sees, inference.catalogue.models
    served = [model for name, versions in models.items() if sees(name) for model in versions.values() if model]
    return metadata.statistics(inference.counts, served)


async def describe_model(request: Request) -> Any:
    """The tensors of a version, and which versions may be asked for."""
    inference = _inference(request)
    model = inference.resolve(**request.path_params)
    ready = [version for version, found in inference.catalogue.models[model.manifest.name].items() if found]
    return metadata.model(model, ready)


async def model_ready(request: Request) -> Any:
    """Whether a version is served."""
    is_ready = _inference(request).catalogue.is_ready(**request.path_params)
    return JSONResponse({"name": request.path_params["name"], "ready": is_ready}, 200 if is_ready else 503)


async def configure_model(request: Request) -> Any:
    """The tensors of a version, as Triton's model configuration spells them."""
    return metadata.config(_inference(request).resolve(**request.path_params))


async def count_model(request: Request) -> Any:
    """What the worker process that answers has counted of a version: a lone one, or each in service."""
    inference = _inference(request)
    model = inference.resolve(**request.path_params)
    versions = inference.catalogue.models[model.manifest.name].values()
    return metadata.statistics(
        inference.counts, [model] if "version" in request.path_params else filter(None, versions)
    )


def _named(name: Name) -> None:
    """What a path takes."""


def _versioned(name: Name, version: Version) -> None:
    """The same, of one version."""


for _version, _takes in (("", _named), ("/versions/{version}", _versioned)):
    for _path, _handler, _answer in (
        ("", describe_model, ModelMetadata),
        ("/ready", model_ready, ModelReady),
        ("/config", configure_model, ModelConfig),
        ("/stats", count_model, Statistics),
    ):
        router.add_api_route(
            f"/models/{{name}}{_version}{_path}",
            _handler,
            response_model=_answer,
            dependencies=[Depends(_takes)],
            responses={404: _UNKNOWN, 503: {"model": ModelReady if _handler is model_ready else ProtocolError}},
        )


def _inference(request: Request) -> Inference:
    found: Inference = request.app.state.inference
    return found


async def _written(model: ServedModel, asked: Asked, answer: Prediction | Sampled) -> Written:
    told = fields.of_sample(model, answer) if isinstance(answer, Sampled) else fields.of_prediction(model, answer)
    if isinstance(answer, Sampled) and isinstance(answer.summary, ClassificationSummary) and "prediction_set" in told:
        told["prediction_set"] = answer.summary.prediction_set  # as a tensor: 1 for a class that is in it, else 0
    chosen = outputs.selected(outputs.tensors(told, asked.sampling), asked.outputs, binary=asked.binary)
    head = {
        "model_name": model.manifest.name,
        "model_version": model.manifest.version,
        **({"id": asked.id} if asked.id is not None else {}),
        "parameters": outputs.parameters(model, asked.sampling, told),
    }
    return await outputs.written(head, chosen)
