"""Liveness and readiness, for whoever restarts and routes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from penumbra.schemas import Live, Ready

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", response_model=Live)
async def live() -> Any:
    """The process answers."""
    return Live(live=True)


@router.get("/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}})
async def ready(request: Request) -> Any:
    """The models are loaded and requests are taken."""
    is_ready = bool(request.app.state.ready)
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)
