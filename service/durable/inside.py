"""An application asked from inside its own process: HTTP without a socket, for a client that is used by threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from fastapi import FastAPI

from penumbra.client import Client
from penumbra.conversation import Patience

# Nobody waits for a job's chunk but the job.
_PATIENCE = Patience(timeout=3600.0)


class _Inside(httpx.BaseTransport):
    """Takes requests to the loop on which the application lives."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = httpx.ASGITransport(app), loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.BaseTransport."""
        return asyncio.run_coroutine_threadsafe(self._ask(request, request.read()), self._loop).result()

    async def _ask(self, request: httpx.Request, body: bytes) -> httpx.Response:
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        answer = await self._transport.handle_async_request(asked)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


@contextmanager
def inside(app: FastAPI) -> Iterator[Client]:
    """A client of this application, which runs on a thread of its own meanwhile."""
    loop = asyncio.new_event_loop()
    up, down = threading.Event(), asyncio.Event()
    failed: list[BaseException] = []

    async def live() -> None:
        try:
            async with app.router.lifespan_context(app):
                up.set()
                await down.wait()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            up.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()), daemon=True)
    thread.start()
    up.wait()
    if failed:
        raise failed[0]
    try:
        with Client("http://inside", transport=_Inside(app, loop), patience=_PATIENCE) as client:
            yield client
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join()
        loop.close()
