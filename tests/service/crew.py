"""python crew.py COUNT GRACE: a supervisor and workers that do nothing, told what to do wrong by a file.

Prints a line for everything that happens. What a worker does is in the file that CREW names when it starts: "fail" ends
it with exit code 5 before it is ready, "stubborn" makes it ignore SIGTERM, "orphan" makes it leave a dead process to
process 1 and wait until that was reaped, "grow" makes it say once that it is worn; anything else is good. While the
order is "full", the system has no room for another process; renewing takes until somebody says stop if it is "slow".
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from service import supervisor

supervisor.TICK = 0.05


def say(*words: object) -> None:
    """One line, whole, from whichever process."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def serve(beat: supervisor.Beat) -> None:
    """A worker's life."""
    order = Path(os.environ["CREW"]).read_text()
    if order == "fail":
        say("failing", os.getpid())
        sys.exit(5)
    if order == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if order == "orphan":
        leave_an_orphan()
    beat()
    say("ready", os.getpid())
    if order == "grow":
        beat(worn=True)
    never = threading.Event()
    while not never.wait(supervisor.TICK):
        beat()


def fork() -> int:
    """Where there is room for another process."""
    if Path(os.environ["CREW"]).read_text() == "full":
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    return really_fork()


def renew(stopping: Callable[[], bool]) -> None:
    """Says so; if it is slow, before it ends."""
    say("renewing")
    while Path(os.environ["CREW"]).read_text() == "slow" and not stopping():
        os.sched_yield()
    say("renewed")


def leave_an_orphan() -> None:
    """A process whose parent is gone: process 1 has to wait for it, or it stays a zombie."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        if (grandchild := os.fork()) == 0:
            os._exit(0)
        os.write(writing, b"%d" % grandchild)
        os._exit(0)
    orphan = int(os.read(reading, 20))
    os.waitpid(child, 0)
    while Path(f"/proc/{orphan}").exists():
        os.sched_yield()
    say("reaped", orphan)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    say("supervisor", os.getpid())
    workers, grace = int(sys.argv[1]), float(sys.argv[2])
    really_fork, os.fork = os.fork, fork
    sys.exit(supervisor.Supervisor(serve, workers, grace, renew).run())
