"""The only place where objects meet: settings in, a ready application out."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from fastapi_swagger import patch_fastapi

from models.repository import Repository
from penumbra import __version__
from service.api import documentation, health, native, problems
from service.api.hot import Application
from service.batching import Batcher
from service.engine.evaluate import usable_device, use_one_thread
from service.engine.mask_cache import MaskCache
from service.inference import Inference
from service.settings import Settings
from service.telemetry.observer import Observer, Watched

# The page tells a validator on the internet where the specification is, unless it is told not to.
_DOCS = {"validatorUrl": None, "tryItOutEnabled": True, "filter": True, "displayRequestDuration": True}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application; settings default to the environment's."""
    settings = settings or Settings()
    observer = Observer(
        metrics=settings.metrics,
        directory=Path(settings.metrics_dir) if settings.metrics_dir else None,
        access_log=settings.logs_access,
        log_format=settings.log_format,
        endpoint=settings.traces_url,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        use_one_thread()
        batcher = Batcher(
            settings.engine_threads, settings.max_queue, settings.max_queue_seconds, observe=observer.evaluated
        )
        mask_cache = MaskCache(settings.mask_cache_bytes)
        inference = app.state.inference = Inference(
            Repository(settings.store),
            batcher,
            dense=settings.plan == "dense",
            device=usable_device(settings.device),
            mask_cache=mask_cache,
        )
        observer.start(Watched(inference.models, batcher, mask_cache), app.templates.values())
        # What has been made by now stays: the collector need not look at it again, which takes it a tenth of a second.
        gc.collect()
        gc.freeze()
        app.state.ready = True
        yield
        app.state.ready = False
        await to_thread.run_sync(batcher.close)
        await observer.stop()

    app = Application(
        native.HOT,
        observer,
        title="Penumbra",
        version=__version__,
        summary="Trained MLPs over HTTP: predictions, and seeded Monte Carlo dropout that says how far to trust them.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.ready = False
    app.include_router(health.router)
    app.include_router(native.router)
    problems.install(app)
    documentation.install(app)
    patch_fastapi(app, redirect_from_root_to_docs=False, swagger_ui_parameters=_DOCS)
    return app
