"""A real Redis server in a process of its own, on a free port, with a password."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.objects import free_ports

PASSWORD = "canary-secret"
_ATTEMPTS = 600


class RedisServer:
    """Redis on loopback; it can be killed and started again, and then has forgotten all. `url` has its password."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        (self.port,) = free_ports(1)
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        flags = {"port": self.port, "bind": "127.0.0.1", "save": "", "requirepass": PASSWORD, "dir": self._folder}
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([self._program, *words], stdout=subprocess.DEVNULL)
        for _ in range(_ATTEMPTS):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5):
                    return
            except OSError:
                pass
            try:  # a tenth of a second, if it lives
                self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError("Redis did not start")

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def ask(self, *words: str) -> bytes:
        """What it answers to a command, by a connection of one's own: the raw bytes, up to 64 KB."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            for command in (("AUTH", PASSWORD), words):
                parts = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in command)
                connection.sendall(b"*%d\r\n%b" % (len(command), parts))
                answer = connection.recv(1 << 16)
        return answer


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A running one; skips the test where there is no such program."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no Redis here: it is Debian's package redis-server")
    server = RedisServer(program, folder)
    try:
        yield server
    finally:
        server.kill()
