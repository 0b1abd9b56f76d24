"""Uvicorn's server, with a beat, with connections let in and looked after by us, and a better manner of leaving.

Knows nothing of settings or of requests.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable
from functools import partial
from socket import socket
from types import FrameType
from typing import Any

import uvicorn

from service.listening import Listener, Tally
from service.looking import every
from service.receiving import LOOK_SECONDS, look_after
from service.supervisor import TICK, Beat

# A worker that leaves closes a connection on which nothing is asked for so long.
LEAVE_SECONDS = 5
_LOOK_SECONDS = 0.05


class Server(uvicorn.Server):
    """Uvicorn's server, with a beat from its event loop, and a better manner of leaving.

    For `delay` seconds after SIGTERM it says that it is not ready, and still answers: whoever routes requests here has
    time to look elsewhere. Then it takes no more connections, and ends the open ones as it always would: with an answer
    that says so, or for being idle. A person who presses Ctrl-C does not wait for that. Callers have `patience` seconds
    to send a request.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        delay: float,
        beat: Beat = lambda *, worn=False: None,  # noqa: ARG005 - nobody is there to replace anything
        tally: int | None = None,
        patience: float = math.inf,
    ) -> None:
        super().__init__(config)
        self._delay, self._beat, self._tally, self._patience = delay, beat, tally, patience
        self._hurried = False  # by somebody who does not wait
        self._tasks: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """See uvicorn.Server; with a tally, by listeners of our own."""
        if self._tally is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            tally, loop = Tally(self._tally), asyncio.get_running_loop()
            self.servers: list[Any] = [
                Listener(loop, listening, self._connection, tally, self.config.ssl) for listening in sockets or ()
            ]
        look = partial(look_after, self.server_state.connections, self._patience)
        self._tasks = [
            asyncio.create_task(every(TICK, "beating", self._beat_once, at_once=True)),
            asyncio.create_task(every(LOOK_SECONDS, "looking after connections", look)),
        ]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn.Server."""
        if sig == signal.SIGINT and not self._hurried:
            self._hurried = True
            if self.should_exit:  # that takes no longer than it must from here on; another one ends it at once
                return
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """See uvicorn.Server."""
        self.config.loaded_app.state.ready = False
        await self._wait(self._delay)
        for server in self.servers:
            server.close()
        await self._take_leave()
        await super().shutdown(sockets)

    async def _take_leave(self) -> None:
        """Lets callers leave: a connection ends with its next answer, which says so, or when it has been idle.

        Uvicorn closes at once what seems idle, also where a request is on its way that was not read yet, or where a
        connection was just accepted. Such a request would be lost.
        """
        # Nobody replaces these headers any more; they are those of all answers that have not begun.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for server in self.servers:
            if isinstance(server, Listener):
                await server.wait_closed()
        await self._wait(LEAVE_SECONDS, lambda: not self.server_state.connections)

    async def _wait(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """Waits for so long, or until it is over, or somebody is in a hurry."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and not self._hurried:
            await asyncio.sleep(_LOOK_SECONDS)
            if over():
                return

    def _connection(self) -> asyncio.Protocol:
        """What uvicorn makes for each connection."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return made

    def _beat_once(self) -> None:
        self._beat(worn=self.config.loaded_app.state.memory.worn)
