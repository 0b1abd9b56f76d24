"""Servers under test: started as their users start them, paused while others are measured, and gone at the end.

A server is a process and all that comes of it, however far it detaches itself: every descendant carries a mark in its
environment. Knows nothing of what a server answers. Linux only, as is all of this: it reads /proc.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType

from benchmarks.keeper import marked, send

# Not of the form of settings: a service would say that they are none.
_RUN, _ONE = "BENCH_RUN", "BENCH_SERVER"
_run = uuid.uuid4().hex
START_WITHIN = 120.0  # seconds
SETTLE_WITHIN = 10.0  # seconds
PAUSED_ABOVE = 0.02  # cores kept busy while nobody asks


class Unavailable(RuntimeError):
    """A server that can't be run here; the message says why, in a line."""


class Server:
    """One running server on a port of the loopback interface. Raises Unavailable where it does not come up."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        ready: Callable[[int], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self.idle = 0.0  # cores kept busy while nobody asks
        self._log = log
        one = uuid.uuid4().hex
        self._mark = f"{_ONE}={one}"
        _keeper()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {}), _RUN: _run, _ONE: one},
                start_new_session=True,
            )
        try:
            self._wait_until(ready)
        except BaseException:
            self.stop()
            raise

    def observe_idleness(self, seconds: float = 1.0) -> None:
        """Finds out whether it leaves the cores alone when nobody asks; where it does, it is never paused."""
        self.settle()
        before = self.cpu_seconds()
        time.sleep(seconds)
        self.idle = (self.cpu_seconds() - before) / seconds

    def pause(self) -> None:
        """Stands still, so that it costs others nothing; as it is, where it costs nothing anyway.

        Some servers take a pause for a failure of their own parts, so that none is paused without need.
        """
        if self.idle > PAUSED_ABOVE:
            send(self._mark, signal.SIGSTOP)

    def resume(self) -> None:
        """Goes on."""
        if self.idle > PAUSED_ABOVE:
            send(self._mark, signal.SIGCONT)

    def stop(self) -> None:
        """Asks it to end, and sees to it."""
        self.resume()
        if self._process.poll() is None:
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=8)
        for _ in range(5):  # what is being born while the others are ended is found in the next round
            if not send(self._mark, signal.SIGKILL):
                break
            time.sleep(0.1)
        self._process.wait()

    def settle(self) -> None:
        """Waits until it is idle, or takes no more than it takes at rest."""
        end = time.monotonic() + SETTLE_WITHIN
        while time.monotonic() < end:
            before = self.cpu_seconds()
            time.sleep(0.1)  # at rest at most twice what was seen then, and a little
            if self.cpu_seconds() - before < 0.03 + 0.2 * self.idle:
                break

    def memory(self) -> int:
        """Bytes resident in all its processes; pages that two share are halved (PSS)."""
        total = 0
        for pid in marked(self._mark):
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    total += int(line.split()[1]) * 1024 if line.startswith("Pss:") else 0
        return total

    def last_words(self) -> str:
        """The last line of its log that says anything."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "no word")[-300:]

    def _wait_until(self, ready: Callable[[int], bool]) -> None:
        end = time.monotonic() + START_WITHIN
        while not ready(self.port):
            if self._process.poll() is not None:
                raise Unavailable(f"ended while starting: {self.last_words()}")
            if time.monotonic() > end:
                raise Unavailable(f"not ready within {START_WITHIN:.0f} s: {self.last_words()}")
            time.sleep(0.1)

    def cpu_seconds(self) -> float:
        """Seconds of a core that all its processes have taken."""
        ticks = 0
        for pid in marked(self._mark):
            with suppress(OSError):
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")


def answers(path: str) -> Callable[[int], bool]:
    """Whether GET `path` succeeds: for `ready`."""

    def ready(port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def penumbra(store: Path, log: Path, workers: int, *flags: str) -> Server:
    """The service of this working tree, as a user starts it."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "service", "--store", str(store), "--port", str(port), "--workers", str(workers)]
    command += flags
    return Server(command, port, log, ready=answers("/health/ready"))


@contextmanager
def bounded(minutes: float) -> Iterator[None]:
    """Ends what is inside after some minutes, or when told to end, by an exception: so that all is cleaned up."""
    old = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_REAL, minutes * 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in old.items():
            signal.signal(number, handler)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(f"ended by {signal.Signals(number).name}")


@cache
def _keeper() -> subprocess.Popen[bytes]:
    """One for this run; it notices our end by its standard input."""
    command = [sys.executable, "-m", "benchmarks.keeper", f"{_RUN}={_run}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
