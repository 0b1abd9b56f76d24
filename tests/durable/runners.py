"""`python -m service jobs` as a process that can be killed, and whoever waits for jobs. Knows nothing of rows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx

from tests.api.live import ROOT

# Before a hang is called one; nothing waits this long otherwise.
_PATIENCE = 120.0
_ATTEMPTS = 2400
_PAUSE = threading.Event()
_DONE = re.compile(r"job ([0-9a-f]{32}): chunk (\d+) ")


class Runner:
    """A running one. `chunks` are those that it has computed, as (job, number), in that order."""

    def __init__(self, **settings: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENUMBRA_")}
        environment.update({f"PENUMBRA_{name.upper()}": str(value) for name, value in settings.items()})
        self.chunks: list[tuple[str, int]] = []
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service", "jobs"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, chunks: int) -> None:
        """Returns when it has computed so many chunks, or has ended."""
        self._wait(lambda: len(self.chunks) >= chunks)

    def wait_for(self, text: str) -> None:
        """Returns when it has said this, or has ended."""
        self._wait(lambda: any(text in line for line in self.lines))

    def _wait(self, come: Callable[[], bool]) -> None:
        with self._news:
            came = self._news.wait_for(lambda: come() or self._process.poll() is not None, _PATIENCE)
        assert came, "".join(self.lines)

    def kill(self) -> None:
        """Ends it at once, as no handler could notice."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """Ends it as an operator would, and checks that it calls that a success."""
        self._process.send_signal(signal.SIGTERM)
        self._end()
        assert self._process.returncode == 0, "".join(self.lines)
        assert "Traceback" not in "".join(self.lines), "".join(self.lines)

    def _end(self) -> None:
        self._process.wait(_PATIENCE)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line)
                if found := _DONE.search(line):
                    self.chunks.append((found[1], int(found[2])))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def ended(client: httpx.Client, job: str, **options: Any) -> dict[str, Any]:
    """What is told of a job when it has ended."""
    for _ in range(_ATTEMPTS):
        told: dict[str, Any] = client.get(f"/v1/jobs/{job}", **options).raise_for_status().json()
        if told["state"] not in ("waiting", "running"):
            return told
        _PAUSE.wait(0.05)
    raise AssertionError(f"the job is {told}")
