"""Native `/v1`: made for people and apps. Handlers are straight lines; everything they do has a room of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penumbra.schemas import ModelDescription, ModelEntry, ModelList
from service.api import decoding
from service.api.documentation import PROBLEMS
from service.api.edge import already_has, entity_tag, patience, read_json
from service.api.encoding import SlicedResponse, encode
from service.batching import Timings
from service.engine.uncertainty import ClassificationSummary, RegressionSummary
from service.inference import Inference, Predicted, Sampled, Sampling, ServedModel, newest_ready
from service.settings import Settings

router = APIRouter(prefix="/v1", tags=["models"])

Name = Annotated[str, Path(examples=["diabetes"])]
Version = Annotated[str, Path(examples=["1"])]


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


# The hot routes are Starlette's, without FastAPI's dependency solving; `documentation` spells them out for OpenAPI.
def hot_routes() -> list[Route]:
    """Predict and sample, for the default version and for a named one."""
    return [
        Route(f"/v1/models/{{name}}{version}/{verb}", endpoint, methods=["POST"])
        for verb, endpoint in (("predict", predict), ("sample", sample))
        for version in ("", "/versions/{version}")
    ]


async def predict(request: Request) -> Response:
    """The full network's answer: deterministic, dropout off."""
    settings, inference = _settings(request), _inference(request)
    model = inference.resolve(**request.path_params)
    decode = partial(decoding.prediction, manifest=model.manifest, limits=settings)
    rows = await read_json(request, settings.max_body_bytes, decode)
    tag = entity_tag(b"predict", model.fingerprint.encode(), rows.tobytes())
    if already_has(request, tag):
        return _not_modified(tag)
    answer = await inference.predict(model, rows, patience(request, settings.deadline_ms))
    return await _respond(_prediction_fields(model, answer), answer.timings, tag)


async def sample(request: Request) -> Response:
    """A committee's answer: the same for the same seed, with its uncertainty."""
    settings, inference = _settings(request), _inference(request)
    model = inference.resolve(**request.path_params)
    decode = partial(decoding.sampling, manifest=model.manifest, limits=settings)
    sampling = await read_json(request, settings.max_body_bytes, decode)
    tag = _sampling_tag(model, sampling) if sampling.seeded else None
    if tag and already_has(request, tag):
        return _not_modified(tag)
    answer = await inference.sample(model, sampling, patience(request, settings.deadline_ms))
    return await _respond(_sample_fields(model, sampling, answer), answer.timings, tag)


def _inference(request: Request) -> Inference:
    found: Inference = request.app.state.inference
    return found


def _settings(request: Request) -> Settings:
    found: Settings = request.app.state.settings
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


def _reference(model: ServedModel) -> dict[str, str]:
    manifest = model.manifest
    return {"name": manifest.name, "version": manifest.version, "digest": manifest.digest}


def _prediction_fields(model: ServedModel, answer: Predicted) -> dict[str, Any]:
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


def _sampling_tag(model: ServedModel, sampling: Sampling) -> str:
    committee = sampling.committee
    options = (
        committee.seed,
        committee.samples,
        committee.first_sample,
        committee.p,
        sampling.method,
        sampling.aggregate,
        sampling.level,
        sampling.quantiles,
        sampling.return_draws,
    )
    return entity_tag(b"sample", model.fingerprint.encode(), repr(options).encode(), sampling.rows.tobytes())


def _not_modified(tag: str) -> Response:
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "private"})


async def _respond(fields: dict[str, Any], timings: Timings, tag: str | None) -> Response:
    caching = {"ETag": tag, "Cache-Control": "private"} if tag else {"Cache-Control": "no-store"}
    queue, compute = timings.queue * 1e3, timings.compute * 1e3
    timing = f"queue;dur={queue:.3f}, compute;dur={compute:.3f}, total;dur={queue + compute:.3f}"
    headers = {**caching, "Server-Timing": timing}
    return SlicedResponse(await encode(fields), headers=headers, media_type="application/json")
