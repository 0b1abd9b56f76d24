"""The real service in a process of its own, on a free loopback port. Knows nothing of what is asked of it."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
_UP = re.compile(r"Uvicorn running on (https?://\S+)")
_PATIENCE = 120.0  # seconds before a hang is called one; nothing waits this long otherwise
_ATTEMPTS = 1000


class Server:
    """A running service; settings are passed as PENUMBRA_… variables, and no others reach it.

    Its certificate, where it has one, is checked with the context `verify`.

    `url` is where it listens, `client` an httpx.Client that talks to it, `output` what it has printed so far.
    """

    def __init__(self, verify: ssl.SSLContext | None = None, **settings: object) -> None:
        settings = {"port": 0, "workers": 1, "threads": 2, "stop_delay_seconds": 0, **settings}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENUMBRA_")}
        environment.update({f"PENUMBRA_{name.upper()}": str(value) for name, value in settings.items()})
        self.url = ""
        self._lines: list[str] = []
        self._announced = threading.Event()
        self._ended = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        # Read to the end: a full pipe would stop the server.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._announced.wait(_PATIENCE)
        self.client = httpx.Client(base_url=self.url, timeout=_PATIENCE, verify=True if verify is None else verify)
        # With several workers the line comes before the first of them listens.
        if not any(self._is_ready() or self._ended.wait(0.1) for _ in range(_ATTEMPTS)) or self._ended.is_set():
            self.client.close()
            self._kill()
            raise RuntimeError(f"the server did not start:\n{self.output}")

    @property
    def output(self) -> str:
        """Everything that the process has printed so far."""
        return "".join(self._lines)

    @property
    def peak(self) -> int:
        """The most memory that its processes had so far, bytes."""
        first = self._process.pid
        others = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in (first, *others))
        return 1024 * sum(int(kilobytes) for kilobytes in re.findall(r"VmHWM:\s+(\d+)", status))

    def stop(self) -> None:
        """Asks the process to end, as an operator would, and checks that it calls that a success. Can be repeated.

        Nothing may have gone wrong in it that no answer showed: no traceback is in what it printed.
        """
        self.client.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_PATIENCE)
        finally:
            self._kill()
        assert code == 0, f"the server ended with {code}:\n{self.output}"
        assert "Traceback" not in self.output, self.output

    def _is_ready(self) -> bool:
        try:
            return self.client.get("/health/ready").status_code == 200
        except (httpx.ConnectError, httpx.UnsupportedProtocol):  # not listening yet, or not even announced
            return False

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            if found := _UP.search(line):
                self.url = found.group(1)
                self._announced.set()
        self._ended.set()
        self._announced.set()

    def _kill(self) -> None:
        """Leaves nothing of the process and its workers behind."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(5)
        if self._reader.is_alive():  # workers that outlived their parent hold the pipe open
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
