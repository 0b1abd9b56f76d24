"""From settings to a running server, in this process or in workers; and how it stops.

Knows uvicorn and `supervisor`, and nothing of requests.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import multiprocessing
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import torch
import uvicorn

from models.location import is_url
from models.mirror import open_store
from models.repository import RepositoryError
from service import durable
from service.access.access import Access
from service.access.keys import WrongKeys
from service.agreement import Agreement, Shared
from service.api.guard import LOCAL
from service.app import access_of, create_app, new_loader
from service.caching.shared import is_installed
from service.connections import Room, room_for
from service.edits import as_stored
from service.engine.evaluate import use_one_thread
from service.listening import Listener, Tally, new_tally
from service.looking import every
from service.receiving import LOOK_SECONDS, Protocol, look_after
from service.served import Loader
from service.settings import Settings
from service.supervisor import TICK, Beat, Supervisor
from service.telemetry import logs

# Requests that have been admitted are given this long to be answered when the service stops.
DRAIN_SECONDS = 30
# A worker that leaves closes a connection on which nothing is asked for so long.
LEAVE_SECONDS = 5
_LOOK_SECONDS = 0.05
_FAILED = 3  # exit code where a server could not start
_MARGIN = 5.0  # seconds, for ending threads and processes after that
# A file system in memory, where there is one: what is counted shall never wait for a disk.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it

logger = logging.getLogger(__name__)


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
        self._delay, self._idle, self._beat, self._tally = delay, float(LEAVE_SECONDS), beat, tally
        self._patience = patience
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
        if sig == signal.SIGINT:
            self._delay = self._idle = 0.0
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """See uvicorn.Server."""
        self.config.loaded_app.state.ready = False
        await asyncio.sleep(self._delay)
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
        loop = asyncio.get_running_loop()
        end = loop.time() + self._idle
        for server in self.servers:
            if isinstance(server, Listener):
                await server.wait_closed()
        while loop.time() < end and not self.force_exit:
            await asyncio.sleep(_LOOK_SECONDS)
            if not self.server_state.connections:
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


def serve(settings: Settings) -> int:
    """Serves until told to stop: the exit code.

    One worker is this process itself; but process 1 of a container has orphans to reap, and supervises even one.
    """
    settings, access = _guarded(settings)
    settings = settings.model_copy(update={"max_connections": room_for(settings.max_connections)})
    _refresh_first(settings)
    if settings.worker_processes == 1 and os.getpid() != 1:
        configuration = _configuration(settings, access=access)
        sockets, tally = [configuration.bind_socket()], new_tally(1)
        server = Server(configuration, settings.stop_delay_seconds, tally=tally, patience=settings.receive_seconds)
        server.run(sockets)
        return 0 if server.started else _FAILED
    with _counting_together(settings) as together:
        return _supervise(together, access)


def _guarded(settings: Settings) -> tuple[Settings, Access | None]:
    """The settings with the hosts that go with their address, and who has access; ends the process where it must."""
    try:
        access = access_of(settings)
    except WrongKeys as error:
        sys.exit(f"python -m service: error: {error}")
    if settings.redis_url and not is_installed():
        sys.exit(
            "python -m service: error: --redis-url (or PENUMBRA_REDIS_URL): needs redis-py: install the extra redis"
        )
    if settings.jobs_dir is not None and not durable.is_installed():
        sys.exit("python -m service: error: --jobs-dir (or PENUMBRA_JOBS_DIR): needs DBOS: install the extra jobs")
    if settings.device == "cuda":
        # Workers are forked, which a process that has made a GPU's context can't be: the driver's own library is asked.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        if not torch.cuda.is_available():
            sys.exit("python -m service: error: --device (or PENUMBRA_DEVICE): there is no GPU that PyTorch can use")
    if settings.tls_cert:
        try:
            # An encrypted key would be asked for its password, and nobody is there to answer.
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(settings.tls_cert, settings.tls_key or None, password="")
        except (OSError, ValueError) as error:
            sys.exit(f"python -m service: error: --tls-cert, --tls-key: can't be used: {error}")
    if access is None and not settings.loopback and not settings.allow_anonymous:
        sys.exit(
            f"python -m service: error: others can reach {settings.host}, and there are no keys. Make one with "
            "`python -m service keys add NAME --file keys.jsonl` and set --keys-file keys.jsonl (or "
            "PENUMBRA_KEYS_FILE); or let everybody ask: --allow-anonymous true (or PENUMBRA_ALLOW_ANONYMOUS)"
        )
    if settings.loopback and not settings.allowed_hosts:
        settings = settings.model_copy(update={"allowed_hosts": LOCAL})
    return settings, access


def _supervise(settings: Settings, access: Access | None) -> int:
    loader, agreement = _shared_loader(settings), Shared()
    sockets = [_configuration(settings, access=access).bind_socket()]
    tally = new_tally(settings.worker_processes)
    gc.freeze()

    def work(beat: Beat) -> None:
        configuration = _configuration(settings, loader, agreement, access)
        server = Server(configuration, settings.stop_delay_seconds, beat, tally, settings.receive_seconds)
        server.run(sockets)
        if not server.started:
            sys.exit(_FAILED)

    def renew() -> None:
        if complaint := _refreshed_aside(settings):
            logger.error("the store could not be read again: %s", complaint)
        try:
            if loader is not None:
                loader.prepare(settings.keep_versions)
            agreement.renew(as_stored(open_store(settings.store, settings.cache)))
        except Exception:  # whatever is wrong with the store now, the workers say so
            logger.exception("the store could not be read again")
        gc.freeze()

    grace = settings.stop_delay_seconds + DRAIN_SECONDS + _MARGIN
    return Supervisor(work, settings.worker_processes, grace, renew).run()


@contextmanager
def _counting_together(settings: Settings) -> Iterator[Settings]:
    """The settings with a directory in which workers share what they count, as it is set or one that goes with them."""
    if settings.metrics_dir or not settings.metrics:
        yield settings
        return
    try:
        in_memory = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
        directory = TemporaryDirectory(prefix="penumbra-", dir=in_memory, ignore_cleanup_errors=True)
    except OSError as error:
        sys.exit(
            f"python -m service: error: there is no place for the workers' counts ({error.strerror}): "
            "set --metrics-dir (or PENUMBRA_METRICS_DIR), or --metrics false"
        )
    with directory as path:
        yield settings.model_copy(update={"metrics_dir": path})


def _configuration(
    settings: Settings,
    loader: Loader | None = None,
    agreement: Agreement | None = None,
    access: Access | None = None,
) -> uvicorn.Config:
    return uvicorn.Config(
        partial(create_app, settings, loader, agreement, access),
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=logs.configuration(settings.log_format, settings.log_level),
        log_level=settings.log_level,
        access_log=False,  # there is one of our own
        server_header=False,
        http=partial(Protocol, room=Room(settings.max_connections)),  # type: ignore[arg-type]
        ws="none",
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
        # Nothing here depends on who or where a caller is, so that nobody has to be believed about it.
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS - LEAVE_SECONDS,
    )


def _shared_loader(settings: Settings) -> Loader | None:
    """A loader whose networks are ready before workers are forked; None where a GPU may be used.

    A GPU's context does not survive a fork, and even looking for one makes it.
    """
    if settings.device != "cpu" and torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return None
    use_one_thread()
    loader = new_loader(settings, open_store(settings.store, settings.cache))
    loader.prepare(settings.keep_versions)
    return loader


def _refresh_first(settings: Settings) -> None:
    """Looks into the store before anything is served; where it can't be read and was never, that ends it all."""
    complaint = _refreshed_aside(settings)
    try:
        found = open_store(settings.store, settings.cache).look()
    except RepositoryError as error:
        found, complaint = {}, str(error)
    if complaint and not found:
        sys.exit(f"python -m service: error: --store (or PENUMBRA_STORE): {complaint}")
    if complaint:
        logger.error("%s; what was mirrored before is served", complaint)


def _refreshed_aside(settings: Settings) -> str:
    """Has a process of its own pull what is new, if anything is to be pulled: what was wrong, nothing if all is well.

    What reads object stores starts threads, which must not be there when workers are forked.
    """
    if not is_url(settings.store):
        return ""
    context = multiprocessing.get_context("fork")
    listening, telling = context.Pipe(duplex=False)

    def refresh() -> None:
        try:
            open_store(settings.store, settings.cache).refresh()
        except RepositoryError as error:
            telling.send(str(error))

    process = context.Process(target=refresh)
    process.start()
    telling.close()
    try:
        complaint: str = listening.recv()
    except EOFError:
        complaint = ""
    process.join()
    return complaint or ("" if process.exitcode == 0 else "the store could not be read, for an internal error")
