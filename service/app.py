"""The only place where objects meet: settings in, a ready application out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi_swagger import patch_fastapi

from penumbra import __version__
from service.access.access import Access
from service.agreement import Agreement
from service.api import documentation, health, native, playground, problems
from service.api.guard import Guard
from service.api.hot import Application
from service.api.oip import documentation as oip_documentation
from service.api.oip import routes as oip
from service.lifetime import Parts, alive
from service.preflight import access_of
from service.served import Loader
from service.settings import Settings
from service.splitting import Others
from service.telemetry.observer import Observer

if TYPE_CHECKING:
    from service.durable.database import Database

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
        lifespan=partial(alive, Parts(settings, observer, access, database, loader, agreement, others)),
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


def database_of(settings: Settings) -> Database | None:
    """Where jobs wait, as the settings say; None: nowhere. Nothing of it is imported by those who have none."""
    if settings.jobs_dir is None:
        return None
    from service.durable.database import Database, url_of

    return Database(url_of(settings.jobs_dir, settings.jobs_database))
