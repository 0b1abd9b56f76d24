"""The only place where objects meet: settings in, a ready application out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import FastAPI
from fastapi_swagger import patch_fastapi

from models.mirror import open_store
from models.repository import Repository
from penumbra import __version__
from service.access.access import Access
from service.agreement import Agreement
from service.api import documentation, health, native, playground, problems
from service.api.guard import Guard
from service.api.hot import Application
from service.api.oip import documentation as oip_documentation
from service.api.oip import routes as oip
from service.batching import Batcher
from service.caching.answers import Answers
from service.caching.memory import Memory
from service.caching.shared import Shared
from service.catalogue import Catalogue
from service.engine.evaluate import usable_device, use_one_thread
from service.engine.mask_cache import MaskCache
from service.inference import Inference
from service.memory import MemoryGuard, reader, trim
from service.preflight import access_of
from service.served import Loader
from service.settings import Settings
from service.splitting import Others
from service.telemetry.observer import Observer, Watched

if TYPE_CHECKING:
    from service.durable.database import Database

# Objects made before the collector looks for cycles among them: a request makes dozens, and leaves no cycle. At
# Python's own 700 looking took two hundredths of the time.
_COLLECT_EVERY = 20_000
# The page tells a validator on the internet where the specification is, unless it is told not to.
_DOCS = {"validatorUrl": None, "tryItOutEnabled": True, "filter": True, "displayRequestDuration": True}


def create_app(
    settings: Settings | None = None,
    loader: Loader | None = None,
    agreement: Agreement | None = None,
    access: Access | None = None,
    others: Others | None = None,
) -> FastAPI:
    """The service as an ASGI application.

    Settings default to the environment's, the loader to one that has not loaded anything yet; without an agreement with
    other processes, this one decides alone what it serves; without access, the settings say who has it. Where there are
    `others`, large samplings are divided among them.
    """
    settings = settings or Settings()
    access = access or access_of(settings)
    observer = Observer(
        metrics=settings.metrics,
        directory=Path(settings.metrics_dir) if settings.metrics_dir else None,
        access_log=settings.logs_access,
        log_format=settings.log_format,
        endpoint=settings.traces_url,
    )

    database = database_of(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        use_one_thread()
        mask_cache, answers = MaskCache(settings.mask_cache_bytes), answers_of(settings)

        def relieve() -> None:
            mask_cache.clear()
            if answers is not None:
                answers.memory.clear()
            trim()

        memory = MemoryGuard(settings.memory_share, reader(settings.worker_processes), relieve)
        batcher = Batcher(
            settings.engine_threads,
            settings.max_queue,
            settings.max_queue_seconds,
            observe=observer.evaluated,
            memory_short=lambda: memory.short,
        )
        repository = open_store(settings.store, settings.cache)
        if loader is None:  # nobody else has looked
            await to_thread.run_sync(repository.refresh)
        catalogue = Catalogue(
            repository, loader or new_loader(settings, repository), agreement, keep=settings.keep_versions
        )
        app.state.inference = Inference(catalogue, batcher, mask_cache, answers, others)
        observer.start(Watched(catalogue, batcher, mask_cache, answers), app.templates.values())
        # What has been made by now stays. The collector need not look at it again, which takes it a tenth of a second,
        # not even once: imports leave hardly any garbage behind.
        gc.freeze()
        gc.set_threshold(_COLLECT_EVERY)
        gc.enable()
        app.state.memory = memory
        memory.look()
        following = [asyncio.create_task(catalogue.follow()), asyncio.create_task(memory.watch())]
        if settings.watch_seconds:
            following.append(asyncio.create_task(catalogue.watch(settings.watch_seconds)))
        if access is not None:
            following.append(asyncio.create_task(access.follow()))
        app.state.ready = True
        yield
        app.state.ready = False
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        await to_thread.run_sync(batcher.close)
        if answers is not None and answers.shared is not None:
            await answers.shared.close()
        if database is not None:
            await to_thread.run_sync(database.close)
        await observer.stop()

    app = Application(
        {**native.HOT, **oip.HOT},
        observer,
        Guard(access, settings.hosts, pages=settings.docs),
        title="Penumbra",
        version=__version__,
        summary="Trained MLPs over HTTP: predictions, and seeded Monte Carlo dropout that says how far to trust them.",
        docs_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.ready = False
    app.include_router(health.router)
    app.include_router(native.router)
    app.include_router(oip.router)
    if database is not None:
        from service.api import jobs

        app.include_router(jobs.router_of(settings, database))
    problems.install(app)
    documentation.install(app, oip_documentation.PATHS, oip_documentation.SCHEMAS)
    if settings.docs:
        app.include_router(playground.router)
        patch_fastapi(app, redirect_from_root_to_docs=False, swagger_ui_parameters=_DOCS)
    return app


def answers_of(settings: Settings) -> Answers | None:
    """Where answers are kept, as the settings say; None: nowhere."""
    if not settings.answer_cache_bytes:
        return None
    return Answers(Memory(settings.answer_cache_bytes), Shared(settings.redis_url) if settings.redis_url else None)


def database_of(settings: Settings) -> Database | None:
    """Where jobs wait, as the settings say; None: nowhere. Nothing of it is imported by those who have none."""
    if settings.jobs_dir is None:
        return None
    from service.durable.database import Database, url_of

    return Database(url_of(settings.jobs_dir, settings.jobs_database))


def new_loader(settings: Settings, repository: Repository) -> Loader:
    """What makes networks ready to answer, where and how the settings say."""
    return Loader(repository, usable_device(settings.device))
