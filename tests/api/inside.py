"""The service inside the test's own process: for faults and queues that can't be arranged from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import torch
from fastapi import FastAPI

from service.app import create_app
from service.served import Loader
from service.settings import Settings
from service.splitting import Others


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client that calls the app without sockets; an exception in the app becomes the answer it is turned into."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://inside")


@asynccontextmanager
async def running(
    others: Others | None = None, loader: Loader | None = None, **settings: object
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """An app between its startup and its shutdown, and a client of it; settings of the environment don't count."""
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    app = create_app(Settings.model_validate(settings), loader, others=others)
    try:
        async with app.router.lifespan_context(app), client_of(app) as client:
            yield app, client
    finally:
        # The service sets these for its whole process; other tests live in this one.
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
