"""Log lines: JSON for machines, plain text for a terminal, to standard error, in the order in which they were written.

To log a request through Python's `logging` takes a tenth of a small request's time, so access lines go another way: the
event loop notes numbers, and a thread lays out and writes what has been noted in a tenth of a second, all at once. What
a line says of a request is numbers, names in the store, route templates and an id that was found sane, so that no
caller can write a line of its own; inputs, keys and bodies are nowhere near.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import orjson
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter
from uvicorn.logging import DefaultFormatter

from service.jobs import Sampling
from service.telemetry.trail import Trail, clock

ACCESS = "penumbra.access"
# How long access lines wait for company.
WRITE_SECONDS = 0.1
# At the end of the process, how long to wait for somebody who reads slowly.
FINISH_SECONDS = 5.0
# More lines than this are not kept for a reader who does not read.
MOST_LINES = 200_000
_MOST_SHARED = 4096
_DIGEST = slice(len("sha256:"), len("sha256:") + 12)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))


# What an access line says, None where it is not known: when the answer was there by our clock, what it shares with
# other lines, id, status, rows, samples, seed; and seconds in the queue, of evaluation, and in all.
Entry: TypeAlias = tuple[
    float, bytes, bytes, int, int | None, int | None, int | None, float | None, float | None, float
]  # fmt: skip
Layout: TypeAlias = Callable[[Sequence[Entry]], bytes]


class Lines:
    """Lines on their way to standard error, from any thread, in order; entries become lines when they are written."""

    def __init__(self) -> None:
        self._waiting: deque[bytes | Entry] = deque()
        self._writing = threading.Lock()
        self.put = self._waiting.append
        self.layout: Layout = as_json
        # What is called after a line was put: from here on it is in the lines' own hands, or in those of a `Writer`.
        self.send: Callable[[], None] = self.write

    def __len__(self) -> int:
        return len(self._waiting)

    def write(self) -> None:
        """Writes all that is waiting, unless another thread does so already: then that one writes this, too."""
        while self._waiting and self._writing.acquire(blocking=False):
            try:
                # There is nobody left to tell if standard error is gone.
                with suppress(OSError, ValueError):
                    for _, alike in groupby(self._taken(), type):
                        sys.stderr.buffer.write(self._laid_out(list(alike)))
                    sys.stderr.buffer.flush()
            finally:
                self._writing.release()

    def finish(self) -> None:
        """Writes all that is waiting, and waits for another thread that does, though not for ever for the reader."""
        if self._writing.acquire(timeout=FINISH_SECONDS):
            self._writing.release()
            self.write()

    def _laid_out(self, alike: list[Any]) -> bytes:
        return b"".join(alike) if isinstance(alike[0], bytes) else self.layout(alike)

    def drop(self) -> int:
        """Drops what is waiting; how many lines that was."""
        return len(self._taken())

    def _taken(self) -> list[bytes | Entry]:
        taken: list[bytes | Entry] = []
        with suppress(IndexError):  # another thread takes lines, too
            taken.extend(self._waiting.popleft() for _ in range(len(self._waiting)))
        return taken


class LineHandler(logging.Handler):
    """Writes records, after the access lines that came before them."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            LINES.put(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
            LINES.send()
        except Exception:  # noqa: BLE001 - as every handler: a line that can't be written harms nobody
            self.handleError(record)

    def flush(self) -> None:
        """See logging.Handler; called at the end of the process."""
        LINES.finish()


class JsonFormatter(OrjsonFormatter):
    """A record as a JSON object in one line."""

    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "name", "message", "process"],
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "process": "pid"},
            # Uvicorn's message once more, in colours.
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """UTC, as in access lines."""
        return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Levels in small letters, as in access lines."""
        log_data["level"] = log_data["level"].lower()
        return log_data


class TextFormatter(DefaultFormatter):
    """A record for people: one line and, where there is one, a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Nothing that a message quotes can begin a line."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def resolved(form: str) -> str:
    """Json or text; auto is text for a terminal and json for everything else."""
    return form if form != "auto" else "text" if sys.stderr.isatty() else "json"


def configuration(form: str, level: str) -> dict[str, Any]:
    """All loggers of the process, uvicorn's included, for `logging.config.dictConfig`."""
    formatter: dict[str, Any] = {"()": "service.telemetry.logs.JsonFormatter"}
    if resolved(form) == "text":
        formatter = {"()": "service.telemetry.logs.TextFormatter", "fmt": "%(levelprefix)s %(message)s"}
    ours = {"level": level.upper()}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": formatter},
        "handlers": {"lines": {"()": "service.telemetry.logs.LineHandler", "formatter": "lines"}},
        "root": {"handlers": ["lines"], "level": max("WARNING", level.upper(), key=logging.getLevelName)},
        "loggers": {"service": ours, "models": ours, "uvicorn": ours},
    }


class Writer:
    """Has a thread of its own write all lines, whoever puts them: an event loop shall not wait for who reads them.

    `dropped` is told how many lines nobody would read.
    """

    def __init__(self, dropped: Callable[[int], None]) -> None:
        self._dropped = dropped
        self._thread = ThreadPoolExecutor(1, "log")
        self._due = False
        LINES.send = self.send

    def send(self) -> None:
        """Lets the thread write; if it still does, somebody reads slowly, and lines wait while they may."""
        if not self._due:
            self._due = True
            with suppress(RuntimeError):  # it is closed meanwhile, which writes what is left
                self._thread.submit(self._write)
        elif len(LINES) > MOST_LINES:
            self._dropped(LINES.drop())

    def close(self) -> None:
        """Writes what is left."""
        LINES.send = LINES.write
        self._thread.shutdown()
        LINES.write()

    def _write(self) -> None:
        self._due = False  # first: of what is put from here on, nothing is left behind
        LINES.write()


class AccessLog:
    """One line for each request, sent in company."""

    def __init__(self, form: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._shared: dict[tuple[str, str, str], bytes] = {}
        LINES.layout = as_json if resolved(form) == "json" else as_text

    def add(self, trail: Trail, name: str, status: int, seconds: float) -> None:
        """Notes the line of a request; `name` is a model in the store, or none."""
        model, asked, timings = trail.model, trail.asked, trail.timings
        shared = self._shared.get((trail.route, model.fingerprint, trail.caller)) if model is not None else None
        if shared is None or trail.span is not None:
            shared = self._shared_by(trail, name)
        rows = samples = seed = queue = compute = None
        if type(asked) is Sampling:
            rows, samples, seed = len(asked.rows), asked.committee.samples, asked.committee.seed
        elif asked is not None:
            rows = len(asked)
        if timings is not None:
            queue, compute = timings
        at = trail.began + seconds
        LINES.put((at, shared, trail.request_id, status, rows, samples, seed, queue, compute, seconds))
        if not self._due:
            self._due = True
            self._loop.call_later(WRITE_SECONDS, self._send)

    def _send(self) -> None:
        self._due = False
        LINES.send()

    def _shared_by(self, trail: Trail, name: str) -> bytes:
        """What all lines of a route and a version share, as JSON without its braces; remembered for hot routes."""
        model = trail.model
        fields = {
            "pid": os.getpid(),
            "method": trail.method if trail.method in _METHODS else "other",
            "route": trail.route,
            "model": name,
            "version": model.manifest.version if model else None,
            "digest": model.manifest.digest[_DIGEST] if model else None,
            "key": trail.caller or None,
        }
        if trail.span is not None:
            return _inner(fields | {"trace_id": f"{trail.span.get_span_context().trace_id:032x}"})
        shared = _inner(fields)
        if model is not None:
            if len(self._shared) >= _MOST_SHARED:  # tokens may name anybody
                self._shared.clear()
            self._shared[trail.route, model.fingerprint, trail.caller] = shared
        return shared


_LINE = (
    b'{"time":%b,"level":"info","logger":"penumbra.access","message":"request",%b,"request_id":"%b","status":%b,'
    b'"rows":%b,"samples":%b,"seed":%b,"queue_ms":%b,"compute_ms":%b,"total_ms":%b}\n'
)


def as_json(entries: Sequence[Entry]) -> bytes:
    """Lines for machines; a column at a time, which takes half of what a line at a time does."""
    at, shared, ids, status, rows, samples, seeds, *seconds = zip(*entries, strict=True)
    since = time.time() - clock()
    times = ((np.array(at) + since) * 1e6).astype("datetime64[us]")
    # What is not known becomes NaN, and that null.
    milliseconds = np.round(np.array(seconds, np.float64) * 1e3, 3)
    columns = map(_texts, (times, status, rows, samples, seeds, *milliseconds))
    return b"".join(map(_LINE.__mod__, zip(next(columns), shared, ids, *columns, strict=True)))


def as_text(entries: Sequence[Entry]) -> bytes:
    """Lines for people."""
    return "".join(map(_for_people, entries)).encode()


def _for_people(entry: Entry) -> str:
    at, shared, request_id, status, rows, samples, seed, queue, compute, total = entry
    known = orjson.loads(b"{%b}" % shared)
    moment = time.strftime("%H:%M:%S", time.localtime(time.time() - clock() + at))
    said = [f"{moment}  {known['method']} {known['route']} {status} {total * 1e3:.1f} ms"]
    if known["version"] is not None:
        said.append(f"{known['model']}/{known['version']} {known['digest']}")
    if known["key"] is not None:
        said.append(f"key {known['key']}")
    if rows is not None:
        said.append(f"rows {rows}")
    if samples is not None:
        said.append(f"samples {samples} seed {seed}")
    if queue is not None and compute is not None:
        said.append(f"queue {queue * 1e3:.1f} ms compute {compute * 1e3:.1f} ms")
    if "trace_id" in known:
        said.append(f"trace {known['trace_id']}")
    return " · ".join([*said, f"id {request_id.decode()}"]) + "\n"


def _texts(values: Iterable[Any]) -> list[bytes]:
    """Numbers or times as JSON, each for itself."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
    return orjson.dumps(values, None, options)[1:-1].split(b",")


def _inner(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields)[1:-1]


LINES = Lines()
