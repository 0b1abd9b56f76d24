"""python -m service jobs: the process that works on jobs, one after the other, in the time that others leave.

It is killed like any other process, and needs no better manner of leaving: whatever was done is on disk and in the
database, and the next one goes on from there. It asks the networks as any caller would, in an application of its own
that nobody else can reach. Knows nothing of HTTP.
"""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import sys
import threading
import time
from pathlib import Path

from dbos import DBOS, error
from sqlalchemy.exc import SQLAlchemyError

from service import memory
from service.app import create_app
from service.durable import files
from service.durable.alone import COMPLAINT
from service.durable.database import (
    QUEUE,
    RUNNING,
    SERIALIZER,
    STEPS_VERSION,
    WAITING,
    Database,
    make_private,
    url_of,
)
from service.durable.files import Folder
from service.durable.inside import inside
from service.durable.work import define
from service.errors import Unavailable, UnknownJob
from service.settings import Settings
from service.telemetry import logs

_LOOK_SECONDS = 0.5
_SWEEP_SECONDS = 60.0
# Nothing has come of a table for so long: whoever received it was ended.
_LEFT_SECONDS = 3600.0
# Memory for a job's tables, besides what the process takes by itself: so much, or so many times the largest table.
_LEAST_ROOM, _TABLES = 4 << 30, 8
# What others should not have to wait for.
_LAST = 19

logger = logging.getLogger(__name__)


def run(settings: Settings, directory: Path) -> int:
    """Works until it is told to stop, on jobs that nobody else works on (`alone`); the exit code."""
    url = url_of(directory, settings.jobs_database)
    logging.config.dictConfig(logs.configuration(settings.log_format, settings.log_level))
    os.nice(_LAST)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with inside(create_app(_own(settings))) as client:
        define(client, directory)
        database = Database(url)
        try:
            make_private(url)
            _launch(url)
        except (SQLAlchemyError, error.DBOSException, OSError) as failure:
            sys.exit(f"{COMPLAINT}--jobs-database (or PENUMBRA_JOBS_DATABASE): {type(failure).__name__}")
        memory.bound(max(_LEAST_ROOM, _TABLES * settings.max_job_bytes))
        logger.info("working on the jobs in %s", directory)
        while not stop.wait(_SWEEP_SECONDS):
            sweep(directory, database, settings.jobs_keep_hours * 3600, time.time())
        logger.info("stopped; what is not done goes on with the next start")
        logging.shutdown()
        # Not by way of the threads: a chunk that is being computed now is computed again, as after any other end.
        os._exit(0)


def sweep(directory: Path, database: Database, seconds: float, now: float) -> None:
    """Removes the jobs that came so long ago, and are not worked on any more; and what came half, an hour ago."""
    try:
        old = [folder for folder in files.folders(directory) if _is_old(folder, seconds, now)]
        standings = database.standings([folder.id for folder in old])
        for folder in old:
            found = standings.get(folder.id)
            if found is None or found.state not in (WAITING, RUNNING):
                folder.remove()
                if found is not None:
                    database.forget(folder.id)
                logger.info("job %s was kept long enough", folder.id)
    except (OSError, Unavailable) as failure:
        logger.warning("old jobs could not be removed: %s", failure)


def _is_old(folder: Folder, seconds: float, now: float) -> bool:
    if folder.is_coming:
        return now - folder.changed() > min(seconds, _LEFT_SECONDS)
    try:
        created = folder.asked().created
    except UnknownJob:  # what is left of one that was removed
        created = folder.home.stat().st_mtime
    return now - created > seconds


def _launch(url: str) -> None:
    DBOS(
        config={
            "name": "penumbra",
            "system_database_url": url,
            "serializer": SERIALIZER,
            "application_version": STEPS_VERSION,
            "executor_id": "jobs",
            "log_level": "WARNING",
        }
    )
    told = logging.getLogger("dbos")
    told.handlers.clear()
    told.propagate = True
    told.addFilter(_is_news)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=_LOOK_SECONDS, on_conflict="always_update")


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a job was cancelled: for DBOS that is an error."""
    kind = record.exc_info[0] if record.exc_info else None
    cancelled = (error.DBOSWorkflowCancelledError, error.DBOSAwaitedWorkflowCancelledError)
    return kind is None or not issubclass(kind, cancelled)


def _own(settings: Settings) -> Settings:
    """The settings of an application that only jobs ask."""
    return settings.model_copy(
        update={
            "keys": "",
            "keys_file": "",
            "jwt_keys": "",
            "allowed_hosts": "",
            "jobs_dir": None,
            "workers": 1,
            "metrics": False,
            "access_log": False,
            "docs": False,
            "answer_cache_bytes": 0,
            "redis_url": "",
            "deadline_ms": 3_600_000,
        }
    )
