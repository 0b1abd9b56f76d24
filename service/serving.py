"""From settings to a running server, in this process or in workers; and how it stops.

Knows uvicorn and `supervisor`, and nothing of requests.
"""

from __future__ import annotations

import gc
import logging
import logging.config
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory

import torch
import uvicorn

from models.mirror import open_store
from service.access.access import Access
from service.agreement import Agreement, Shared
from service.app import create_app
from service.connections import Room, room_for
from service.edits import as_stored
from service.engine.evaluate import use_one_thread
from service.lifetime import new_loader
from service.listening import new_tally
from service.receiving import Protocol
from service.refreshing import refresh_first, refreshed_aside
from service.served import Loader
from service.server import LEAVE_SECONDS, Server
from service.settings import Settings
from service.supervisor import Beat, Supervisor
from service.telemetry import logs

# Requests that have been admitted are given this long to be answered when the service stops.
DRAIN_SECONDS = 30
# What SIGHUP has pulled from an object store may take so long; what takes longer is left to those who watch.
REFRESH_SECONDS = 60.0
_FAILED = 3  # exit code where a server could not start
_MARGIN = 5.0  # seconds, for ending threads and processes after that
# A file system in memory, where there is one: what is counted shall never wait for a disk.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it

logger = logging.getLogger(__name__)


def serve(settings: Settings, access: Access | None, listening: socket) -> int:
    """Serves on this socket until told to stop: the exit code.

    One worker is this process itself; but process 1 of a container has orphans to reap, and supervises even one.
    """
    _look_for_gpu(settings)
    logging.config.dictConfig(logs.configuration(settings.log_format, settings.log_level))
    settings = settings.model_copy(update={"max_connections": room_for(settings.max_connections)})
    refresh_first(settings)
    if settings.worker_processes == 1 and os.getpid() != 1:
        _announce(settings, listening)
        configuration = _configuration(settings, access=access)
        server = Server(
            configuration, settings.stop_delay_seconds, tally=new_tally(1), patience=settings.receive_seconds
        )
        server.run([listening])
        return 0 if server.started else _FAILED
    with _counting_together(settings) as together:
        return _supervise(together, access, listening)


def _look_for_gpu(settings: Settings) -> None:
    if settings.device == "cuda":
        # Workers are forked, which a process that has made a GPU's context can't be: the driver's own library is asked.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        if not torch.cuda.is_available():
            sys.exit("python -m service: error: --device (or PENUMBRA_DEVICE): there is no GPU that PyTorch can use")


def _announce(settings: Settings, listening: socket) -> None:
    """Where it will listen, in uvicorn's words, which others look for."""
    host, port = listening.getsockname()[:2]
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    scheme = "https" if settings.tls_cert else "http"
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s://%s (Press CTRL+C to quit)", scheme, where)


def _supervise(settings: Settings, access: Access | None, listening: socket) -> int:
    loader, agreement = _shared_loader(settings), Shared()
    _announce(settings, listening)
    tally = new_tally(settings.worker_processes)
    gc.freeze()

    def work(beat: Beat) -> None:
        configuration = _configuration(settings, loader, agreement, access)
        server = Server(configuration, settings.stop_delay_seconds, beat, tally, settings.receive_seconds)
        server.run([listening])
        if not server.started:
            sys.exit(_FAILED)

    def renew(stopping: Callable[[], bool]) -> None:
        try:
            if complaint := refreshed_aside(settings, stopping, REFRESH_SECONDS):
                logger.error("the store could not be read again: %s", complaint)
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
