"""Bytes over a socket, as no client library would send them, and what comes back until the other side hangs up."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

import httpx

PATIENCE = 60.0  # seconds before a hang is called one; nothing waits this long otherwise


class Wire:
    """A connection to a server."""

    def __init__(self, url: str) -> None:
        parsed = httpx.URL(url)
        self.host = parsed.netloc
        self.socket = socket.create_connection((parsed.host, parsed.port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends as much as the other side still takes; `HOST` stands for the server's own."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data.replace(b"HOST", self.host))

    def rest(self) -> bytes:
        """Everything until the other side closes the connection, which it must."""
        chunks: list[bytes] = []
        with suppress(ConnectionResetError):
            while chunk := self.socket.recv(1 << 16):
                chunks.append(chunk)
        return b"".join(chunks)


def exchange(url: str, parts: Iterable[bytes]) -> list[tuple[int, dict[str, str], bytes]]:
    """Sends these parts one after the other: status, headers and body of each answer until the connection is closed."""
    with Wire(url) as wire:
        for part in parts:
            wire.send(part)
        return answers(wire.rest())


def answers(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Answers that stand one after the other."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers["content-length"])
        found.append((int(status.split()[1]), headers, data[:length]))
        data = data[length:]
    return found
