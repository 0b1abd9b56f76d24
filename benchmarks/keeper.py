"""Ends what a benchmark started when the benchmark itself is gone, even killed: paused servers can't end themselves.

    python -m benchmarks.keeper MARK       until standard input closes, then kills every process with MARK

A mark is NAME=VALUE in a process's environment, which all its descendants inherit. Linux only: reads /proc.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path


def marked(mark: str) -> list[int]:
    """Ids of all processes that carry the mark."""
    wanted, found = mark.encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def send(mark: str, number: signal.Signals) -> int:
    """Signals every process that carries the mark; how many there were."""
    pids = marked(mark)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return len(pids)


if __name__ == "__main__":
    sys.stdin.read()
    for _ in range(5):  # what was being born meanwhile is found in the next round
        if not send(sys.argv[1], signal.SIGKILL):
            break
