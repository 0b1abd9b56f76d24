"""A server that misbehaves as it is told, on a real socket: what it does to each connection is a list of bytes.

It speaks just enough HTTP to be asked; knows nothing of what a good answer would be.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

HANG = "hang"  # instead of bytes: says nothing more, until the test ends
RESET = "reset"  # instead of bytes: breaks the connection, as a crash does


def reply(status: int, body: bytes = b"", **headers: str) -> list[bytes]:
    """An answer that is sent in one piece."""
    named = {"content-type": "application/json", **{name.replace("_", "-"): headers[name] for name in headers}}
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in named.items()]
    return ["\r\n".join([*lines, "", ""]).encode() + body]


def problem(status: int, detail: str, **headers: str) -> list[bytes]:
    """A problem, as the service has them."""
    fields = {"type": "about:blank", "title": "x", "status": status, "detail": detail, "errors": [], "request_id": "r1"}
    return reply(status, orjson.dumps(fields), content_type="application/problem+json", **headers)


class Rude:
    """Answers its connections in turn, one script each; the last script serves all that follow.

    `url` is where it listens, `heard` are the requests it has read: (head, body), the head in lower case.
    """

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self._scripts = scripts
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.heard: list[tuple[str, bytes]] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Ends every conversation."""
        self._over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(5)

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            script = self._scripts[min(number, len(self._scripts) - 1)]
            number += 1
            thread = threading.Thread(target=self._answer, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket, script: Sequence[Any]) -> None:
        with connection, suppress(OSError):
            self.heard.append(_read(connection))
            for part in script:
                if part == HANG:
                    self._over.wait()
                elif part == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    return
                else:
                    connection.sendall(part)


def _read(connection: socket.socket) -> tuple[str, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return received.decode(), b""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    text = head.decode().lower()
    length = next((int(line.split(":")[1]) for line in text.splitlines() if line.startswith("content-length")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return text, body
