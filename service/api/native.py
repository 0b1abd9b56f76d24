"""Native `/v1`: made for people and apps. Handlers are straight lines; everything they do has a room of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path
from starlette.requests import Request

from models.features import Float64
from penumbra.schemas import ModelDescription, ModelEntry, ModelList
from service.api import decoding, tags
from service.api.documentation import PROBLEMS
from service.api.edge import Answer, Exchange
from service.api.encoding import encode
from service.api.hot import Handler
from service.batching import Timings
from service.engine.uncertainty import ClassificationSummary, RegressionSummary
from service.inference import Inference
from service.jobs import Prediction, Sampled, Sampling
from service.served import ServedModel, newest_ready
from service.settings import Settings

router = APIRouter(prefix="/v1", tags=["models"])

Name = Annotated[str, Path(examples=["diabetes"])]
Version = Annotated[str, Path(examples=["1"])]

_JSON = (b"content-type", b"application/json")
_PRIVATE = (b"cache-control", b"private")
_NO_STORE = (b"cache-control", b"no-store")


@router.get("/models", response_model=ModelList)
async def list_models(request: Request) -> Any:
    """Every model, sorted by name, with the version that is served by default."""
    return ModelList(models=[_entry(name, versions) for name, versions in _inference(request).models.items()])


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
    if exchange.already_has(tag):
        return _not_modified(tag)
    patience = exchange.patience(settings.deadline_ms)
    answer, exchange.timings = await inference.predict(model, rows, patience, exchange.gone)
    return await _respond(_prediction_fields(model, answer), exchange.timings, tag)


async def sample(exchange: Exchange) -> Answer:
    """A committee's answer: the same for the same seed, with its uncertainty."""
    inference, settings = exchange.state.inference, exchange.state.settings
    model = exchange.model = inference.resolve(**exchange.parameters)
    sampling, tag = await exchange.read(settings.max_body_bytes, partial(_sampling, model, settings))
    exchange.asked = sampling
    if tag and exchange.already_has(tag):
        return _not_modified(tag)
    patience = exchange.patience(settings.deadline_ms)
    answer, exchange.timings = await inference.sample(model, sampling, patience, exchange.gone)
    return await _respond(_sample_fields(model, sampling, answer), exchange.timings, tag)


# Predict and sample, for the default version and for a named one; `documentation` spells them out for OpenAPI.
HOT: Mapping[str, Handler] = {
    f"/v1/models/{{name}}{version}/{handler.__name__}": handler
    for handler in (predict, sample)
    for version in ("", "/versions/{version}")
}


def _prediction(model: ServedModel, settings: Settings, body: dict[str, Any]) -> tuple[Float64, bytes]:
    """What is to be predicted, and the tag of its answer."""
    rows = decoding.prediction(body, model, settings)
    return rows, tags.of_prediction(model, rows)


def _sampling(model: ServedModel, settings: Settings, body: dict[str, Any]) -> tuple[Sampling, bytes | None]:
    """What is to be sampled, and the tag of its answer where the caller can ask for that again."""
    sampling = decoding.sampling(body, model, settings)
    return sampling, tags.of_sampling(model, sampling) if sampling.seeded else None


def _inference(request: Request) -> Inference:
    found: Inference = request.app.state.inference
    return found


def _entry(name: str, versions: Mapping[str, ServedModel | None]) -> ModelEntry:
    served = newest_ready(versions)
    manifest = served.manifest if served else None
    return ModelEntry(
        name=name,
        version=manifest.version if manifest else None,
        versions=list(versions),
        task=manifest.task if manifest else None,
        digest=manifest.digest if manifest else None,
        ready=served is not None,
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


def _prediction_fields(model: ServedModel, answer: Prediction) -> dict[str, Any]:
    if model.manifest.task == "classification":
        labels = [model.manifest.labels[winner] for winner in answer.mean.argmax(axis=1)]
        return {"model": _reference(model), "labels": labels, "probabilities": answer.mean}
    known = {} if answer.aleatoric_std is None else {"aleatoric_std": answer.aleatoric_std}
    return {"model": _reference(model), "mean": answer.mean, **known}


def _sample_fields(model: ServedModel, sampling: Sampling, answer: Sampled) -> dict[str, Any]:
    committee, summary = sampling.committee, answer.summary
    return {
        "model": _reference(model),
        "seed": committee.seed,
        "first_sample": committee.first_sample,
        "samples": committee.samples,
        "method": sampling.method,
        **(
            _regression_fields(sampling, summary)
            if isinstance(summary, RegressionSummary)
            else _classification_fields(model, summary)
        ),
        **({} if answer.draws is None else {"draws": answer.draws}),
    }


def _regression_fields(sampling: Sampling, summary: RegressionSummary) -> dict[str, Any]:
    interval = summary.interval
    quantiles = {repr(float(probability)): bound for probability, bound in summary.quantiles.items()}
    return {
        "mean": summary.mean,
        "std": summary.std,
        "epistemic_std": summary.epistemic_std,
        "aleatoric_std": summary.aleatoric_std,
        "stderr": summary.stderr,
        "interval": {
            "level": interval.level,
            "kind": interval.kind,
            "lower": interval.lower,
            "upper": interval.upper,
        },
        **({"quantiles": quantiles} if sampling.quantiles else {}),
    }


def _classification_fields(model: ServedModel, summary: ClassificationSummary) -> dict[str, Any]:
    return {
        "labels": [model.manifest.labels[winner] for winner in summary.winners],
        "probabilities": summary.probabilities,
        "std": summary.std,
        "stderr": summary.stderr,
        "predictive_entropy": summary.predictive_entropy,
        "expected_entropy": summary.expected_entropy,
        "mutual_information": summary.mutual_information,
        "variation_ratio": summary.variation_ratio,
        "votes": summary.votes,
    }


def _not_modified(tag: bytes) -> Answer:
    return Answer(304, [(b"etag", tag), _PRIVATE])


async def _respond(fields: dict[str, Any], timings: Timings, tag: bytes | None) -> Answer:
    queue, compute = timings.queue * 1e3, timings.compute * 1e3
    timing = b"queue;dur=%.3f, compute;dur=%.3f, total;dur=%.3f" % (queue, compute, queue + compute)
    caching = [(b"etag", tag), _PRIVATE] if tag else [_NO_STORE]
    return Answer(200, [_JSON, *caching, (b"server-timing", timing)], await encode(fields))
