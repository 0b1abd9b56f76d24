"""The HTTP floor as a contender: the bare application, running, and what it is asked. Measures nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.jobs import Job, Speaker, Spelling, ours
from benchmarks.servers import Server, answers, free_ports


def bare_server(log: Path, workers: int) -> Server:
    """The HTTP floor, running."""
    port = free_ports(1)[0]
    command = [
        sys.executable, "-m", "uvicorn", "benchmarks.http.bare:app", "--port", str(port), "--workers", str(workers),
        "--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools",
    ]  # fmt: skip
    return Server(command, port, log, ready=answers("/0"))


def as_long_as(lengths: dict[str, int]) -> Speaker:
    """The same bodies as Penumbra's, to the bare server: answered with as many bytes as Penumbra's answer has."""

    def speak(job: Job) -> Spelling:
        return replace(ours(job), path=f"/{lengths[job.name]}")

    return speak
