"""Liveness and readiness for whoever restarts and routes, and metrics for whoever watches."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

from penumbra.schemas import Live, Ready
from service.api.documentation import PROBLEMS
from service.telemetry.exposition import MEDIA_TYPE

router = APIRouter(tags=["health"])


@router.get("/health/live", response_model=Live)
async def live() -> Any:
    """The process answers."""
    return Live(live=True)


@router.get("/health/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}})
async def ready(request: Request) -> Any:
    """The models are loaded and requests are taken."""
    is_ready = bool(request.app.state.ready)
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={404: {**PROBLEMS(404)[404], "description": "Metrics are switched off"}},
)
async def metrics(request: Request) -> Any:
    """What Prometheus asks for: all workers' metrics, whichever of them answers."""
    text = await request.app.observer.exposition()
    if text is None:
        raise HTTPException(404)
    return PlainTextResponse(text, media_type=MEDIA_TYPE)
