"""The one who is told: of every answer by the door, of every evaluation by the batcher. Counts, logs and traces it.

What is switched off is None. A mistake in here costs a line in the log, never an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread

from service.batching import Batcher
from service.caching.answers import Answers
from service.catalogue import Catalogue
from service.engine.mask_cache import MaskCache
from service.jobs import Job
from service.looking import every
from service.telemetry import tracing
from service.telemetry.counting import NONE, Counters, open_board
from service.telemetry.exposition import Exposition
from service.telemetry.logs import AccessLog, Writer
from service.telemetry.pages import Board
from service.telemetry.trail import Trail, clock

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0


class Watched(NamedTuple):
    """What is looked at, as it doesn't report of itself."""

    catalogue: Catalogue
    batcher: Batcher
    cache: MaskCache
    answers: Answers | None = None


class Observer:
    """All of telemetry, between the start of the service and its end.

    `metrics` and `access_log` switch these on, `directory` is where workers' pages lie, `log_format` is json, text or
    auto, and `endpoint` takes traces.
    """

    tracer: tracing.Tracer | None = None

    def __init__(
        self,
        *,
        metrics: bool = True,
        access_log: bool = True,
        directory: Path | None = None,
        log_format: str = "auto",
        endpoint: str = "",
    ) -> None:
        self._metrics, self._access_log = metrics, access_log
        self._directory, self._log_format, self._endpoint = directory, log_format, endpoint
        self._counters: Counters | None = None
        self._writer: Writer | None = None
        self._log: AccessLog | None = None
        self._exposition: Exposition | None = None
        self._board: Board | None = None
        self._watched: Watched | None = None
        self._names: Callable[[], Collection[str]] = tuple  # models that may be named by now
        self._heart: asyncio.Task[None] | None = None
        self._due = 0.0

    def start(self, watched: Watched, routes: Collection[str]) -> None:
        """Begins; on the event loop. `routes` are the templates that may become labels."""
        catalogue = watched.catalogue
        self._watched, self._names = watched, lambda: catalogue.models
        self._writer = Writer(self._note_dropped)
        if self._metrics:
            self._board = open_board(self._directory)
            self._counters = Counters(self._board, self._names, routes, answers=watched.answers)
            self._exposition = Exposition(self._board, lambda: catalogue.models, time.time)
            self._due = clock()
            self._beat()
            self._heart = asyncio.create_task(every(HEARTBEAT_SECONDS, "noting gauges", self._beat))
        if self._access_log:
            self._log = AccessLog(self._log_format)
        if self._endpoint and (provider := tracing.provider(self._endpoint)) is not None:
            self.tracer = tracing.Tracer(provider)

    async def stop(self) -> None:
        """Ends: what has been counted stays counted, what was to be written is."""
        if self._heart is not None:
            self._heart.cancel()
        if self._writer is not None:
            await to_thread.run_sync(self._writer.close)
        if self.tracer is not None:
            await to_thread.run_sync(self.tracer.close)
        self._counters = self._log = self._exposition = self.tracer = None
        if self._board is not None:
            self._board.close()

    def answered(self, trail: Trail, status: int, error: Exception | None = None) -> None:
        """A request has its answer, which has not been sent yet; `error` is why, where it is not a good one."""
        seconds = clock() - trail.began
        try:
            if self._counters is not None:
                self._counters.answered(trail.route, trail.name, status, seconds)
                if trail.outcome is not None:
                    self._counters.looked_up(trail.outcome)
                if error is not None:
                    self._counters.failed(error)
            if self._log is not None:
                self._log.add(trail, trail.name if trail.name in self._names() else NONE, status, seconds)
            if trail.span is not None and self.tracer is not None:
                self.tracer.end(trail, status, error)
        except Exception:
            logger.exception("an answer was not observed; please report this")

    def evaluated(self, jobs: Sequence[Job], waits: Sequence[float], seconds: float) -> None:
        """See `batching.Observe`."""
        if self._counters is not None:
            try:
                self._counters.evaluated(jobs, waits, seconds)
            except Exception:
                logger.exception("an evaluation was not observed; please report this")

    async def exposition(self) -> bytes | None:
        """All metrics as text; None where they are switched off."""
        if self._exposition is None:
            return None
        self._look()
        return await to_thread.run_sync(self._exposition.text)

    def _look(self) -> None:
        """Notes what does not report of itself."""
        assert self._counters is not None, "nobody looks when nothing is counted. This is a bug."
        assert self._watched is not None, "nobody looks before there is something to see. This is a bug."
        batcher, answers = self._watched.batcher, self._watched.answers
        joined = 0 if answers is None else answers.joined
        self._counters.note_queue(batcher.admitted + joined, batcher.queued, batcher.admitted_seconds)
        self._counters.note_cache(self._watched.cache)
        self._counters.note_answers()
        self._counters.note_looks(self._watched.catalogue.looks)

    def _beat(self) -> None:
        """Notes gauges, once a second, so that other workers see none that are older; and how late that is."""
        now, due = clock(), self._due
        self._due = now + HEARTBEAT_SECONDS
        assert self._counters is not None, "nothing beats when nothing is counted. This is a bug."
        self._counters.note_worker(now - due)
        self._look()

    def _note_dropped(self, lines: int) -> None:
        if self._counters is not None:
            self._counters.dropped_lines(lines)
        logger.warning("%d lines were dropped: nobody reads the log", lines)
