"""A relay between browser and service that can be cut: to the browser the service has died in the middle of an answer.

Real sockets on both sides. Knows nothing of HTTP but that events of a stream end with an empty line.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_STREAM = b"/sample/stream"
_EVENT = b"\n\n"


class Relay:
    """Listens on a port of its own and passes on what comes. `url` is where.

    `hold_after(events)`: of the next stream so many events pass, and no more. `cut()`: every connection ends without a
    good-bye, and so does each new one; until `mend()`.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._events: int | None = None
        self._dead = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop()
        for thread in self._threads:
            thread.join()

    def hold_after(self, events: int) -> None:
        """Lets so many events of the next stream pass, and keeps the rest."""
        self._events = events

    def cut(self) -> None:
        """The service is gone."""
        self._dead = True
        self._drop()

    def mend(self) -> None:
        """The service is back."""
        self._dead, self._events = False, None

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._dead:
                _close(near)
                continue
            far = socket.create_connection(self._upstream)
            with self._lock:
                self._open |= {near, far}
            streams = threading.Event()
            self._start(self._ask, near, far, streams)
            self._start(self._answer, far, near, streams)

    def _ask(self, near: socket.socket, far: socket.socket, streams: threading.Event) -> None:
        for data in self._read(near, far):
            if _STREAM in data:
                streams.set()
            _send(far, data)

    def _answer(self, far: socket.socket, near: socket.socket, streams: threading.Event) -> None:
        seen = 0
        for data in self._read(far, near):
            if self._events is None or not streams.is_set():
                _send(near, data)
                continue
            left = self._events - seen
            seen += data.count(_EVENT)
            if seen < self._events:
                _send(near, data)
            elif left > 0:
                _send(near, b"".join(event + _EVENT for event in data.split(_EVENT)[:left]))

    def _read(self, source: socket.socket, other: socket.socket):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                yield data
        _close(source)
        _close(other)

    def _drop(self) -> None:
        with self._lock:
            dropped, self._open = self._open, set()
        for one in dropped:
            _close(one)

    def _start(self, target, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _send(to: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        to.sendall(data)


def _close(one: socket.socket) -> None:
    """What has been sent arrives, and nothing after it."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
