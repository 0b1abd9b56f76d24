"""Native `/v1`: made for people and apps. Handlers are straight lines; everything they do has a room of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path
from starlette.requests import Request

from models.features import Float64
from penumbra.schemas import FailedVersion, ModelDescription, ModelEntry, ModelList
from service.api import decoding, fields, tags
from service.api.answers import answered, as_told, not_modified
from service.api.documentation import PROBLEMS
from service.api.edge import Answer, Exchange
from service.api.encoding import encode
from service.api.events import MEDIA, stream_of
from service.api.hot import Handler
from service.caching.memory import Written
from service.inference import Inference
from service.jobs import Prediction, Sampled, Sampling
from service.offers import Offer
from service.served import ServedModel
from service.settings import Settings

router = APIRouter(prefix="/v1", tags=["models"])

Name = Annotated[str, Path(examples=["diabetes"])]
Version = Annotated[str, Path(examples=["1"])]


@router.get("/models", response_model=ModelList)
async def list_models(request: Request) -> Any:
    """Every model, sorted by name, with the version that is served by default."""
    offers, sees = _inference(request).catalogue.offers, request.state.caller.sees
    return ModelList(models=[_entry(name, offer) for name, offer in offers.items() if sees(name)])


@router.get("/models/{name}", response_model=ModelDescription, responses=PROBLEMS(404, 503))
async def describe_model(request: Request, name: Name) -> Any:
    """The manifest of the version that is served by default."""
    return _description(_inference(request).resolve(name))


@router.get("/models/{name}/versions/{version}", response_model=ModelDescription, responses=PROBLEMS(404, 503))
async def describe_version(request: Request, name: Name, version: Version) -> Any:
    """The manifest of one version."""
    return _description(_inference(request).resolve(name, version))


async def predict(exchange: Exchange) -> Answer:
    """The full network's answer: deterministic, dropout off."""
    inference, settings = exchange.state.inference, exchange.state.settings
    model = exchange.model = inference.resolve(**exchange.parameters)
    rows, tag = await exchange.read(settings.max_body_bytes, partial(_prediction, model, settings))
    exchange.asked = rows
    patience = exchange.patience(settings.deadline_ms)
    if exchange.already_has(tag):
        return not_modified(tag)
    told = await inference.tell(model, rows, tag, partial(_predicted, model), patience, exchange.gone, exchange.caller)
    return as_told(told, exchange, tag)


async def sample(exchange: Exchange) -> Answer:
    """A committee's answer: the same for the same seed, with its uncertainty."""
    inference, settings = exchange.state.inference, exchange.state.settings
    model = exchange.model = inference.resolve(**exchange.parameters)
    sampling, tag = await exchange.read(settings.max_body_bytes, partial(_sampling, model, settings))
    exchange.asked = sampling
    patience = exchange.patience(settings.deadline_ms)
    if tag and exchange.already_has(tag):
        return not_modified(tag)
    told = await inference.tell(
        model, sampling, tag, partial(_sampled, model, sampling), patience, exchange.gone, exchange.caller
    )
    return as_told(told, exchange, tag)


async def stream(exchange: Exchange) -> Answer:
    """The same as it grows: an event after each block of samples, and one with the answer."""
    inference, settings = exchange.state.inference, exchange.state.settings
    model = exchange.model = inference.resolve(**exchange.parameters)
    sampling, tag = await exchange.read(settings.max_body_bytes, partial(_sampling, model, settings, verb=b"stream"))
    exchange.asked = sampling
    patience = exchange.patience(settings.deadline_ms)
    if tag and exchange.already_has(tag):
        return not_modified(tag)
    told = inference.stream(model, sampling, patience, exchange.gone, exchange.caller)
    # What is wrong with the request is known after its first block: until then there is no answer that has begun.
    first, exchange.timings = await anext(told)
    tell = partial(_told, model, sampling)
    events = stream_of(first, told, tell, sampling.committee.samples, exchange.request_id)
    return answered(MEDIA, events, exchange.timings, tag)


# Predict and sample, for the default version and for a named one; `documentation` spells them out for OpenAPI.
HOT: Mapping[str, Handler] = {
    f"/v1/models/{{name}}{version}/{verb}": handler
    for verb, handler in (("predict", predict), ("sample", sample), ("sample/stream", stream))
    for version in ("", "/versions/{version}")
}


async def _predicted(model: ServedModel, answer: Prediction) -> Written:
    return Written(await encode({"model": _reference(model), **fields.of_prediction(model, answer)}))


async def _sampled(model: ServedModel, sampling: Sampling, answer: Sampled) -> Written:
    return Written(await encode(_told(model, sampling, answer)))


def _told(model: ServedModel, sampling: Sampling, answer: Sampled) -> dict[str, Any]:
    """The answer to a sampling, whole or so far; of moments no seed is told, for none was used."""
    sampled = sampling.method != "moments"
    return {
        "model": _reference(model),
        "seed": sampling.committee.seed if sampled else None,
        "first_sample": sampling.committee.first_sample if sampled else None,
        "samples": answer.samples,
        "method": sampling.method,
        **({} if sampled else {"approximate": True}),
        **({} if answer.converged is None else {"converged": answer.converged}),
        **fields.of_sample(model, answer),
    }


def _prediction(model: ServedModel, settings: Settings, body: dict[str, Any]) -> tuple[Float64, bytes]:
    """What is to be predicted, and the tag of its answer."""
    rows = decoding.prediction(body, model, settings)
    return rows, tags.of_prediction(model, rows)


def _sampling(
    model: ServedModel, settings: Settings, body: dict[str, Any], verb: bytes = b"sample"
) -> tuple[Sampling, bytes | None]:
    """What is to be sampled, and the tag of its answer where the caller can ask for that again."""
    sampling = decoding.sampling(body, model, settings)
    return sampling, tags.of_sampling(model, sampling, verb) if sampling.seeded else None


def _inference(request: Request) -> Inference:
    found: Inference = request.app.state.inference
    return found


def _entry(name: str, offer: Offer) -> ModelEntry:
    manifest = offer.default.manifest if offer.default else None
    failed = [FailedVersion(version=version, reason=failure.reason) for version, failure in offer.failures.items()]
    return ModelEntry(
        name=name,
        version=manifest.version if manifest else None,
        versions=list(offer.versions),
        task=manifest.task if manifest else None,
        digest=manifest.digest if manifest else None,
        ready=manifest is not None,
        pinned=offer.pinned,
        failed=failed,
    )


def _description(model: ServedModel) -> dict[str, Any]:
    plan = model.network.row_plan
    reproducibility = {"plan": plan.kind, "rows": plan.rows, "verified": plan.verified}
    return {**model.manifest.model_dump(mode="json"), "reproducibility": reproducibility}


def _reference(model: ServedModel) -> orjson.Fragment:
    manifest = model.manifest
    return _encoded_reference(manifest.name, manifest.version, manifest.digest)


@lru_cache(maxsize=1024)
def _encoded_reference(name: str, version: str, digest: str) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps({"name": name, "version": version, "digest": digest}))
