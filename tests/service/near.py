"""A connection as the service has it, in this process, and the other end of it."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service.connections import Room
from service.receiving import Protocol


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with nothing."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def connection(room: Room | None = None, app: ASGIApp = nothing) -> tuple[Protocol, socket.socket]:
    """A connection as the service has it, and its caller's side, which holds little of what it does not read."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        far.connect(listening.getsockname())
        near, _ = listening.accept()
    config = uvicorn.Config(app, http=Protocol, lifespan="off", proxy_headers=False)
    config.load()
    _, protocol = await loop.connect_accepted_socket(lambda: Protocol(config, ServerState(), {}, loop, room=room), near)
    protocol.owing = None  # it has asked
    far.setblocking(False)  # noqa: FBT003
    return protocol, far
