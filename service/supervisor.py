"""Worker processes: forked ready-made, watched, replaced when they die, stopped together.

The process that runs this has imported and loaded everything, and does nothing else any more. A worker that is forked
from it starts at once and shares all memory that neither of them writes to: PyTorch's, and the networks' weights.
Forking is sound only while there is a single thread, or a child could wait for a lock that nobody holds any more: so
threads, event loops and GPU contexts are made in the workers. As process 1 of a container it also reaps orphans.

SIGTERM and SIGINT stop everything, a second SIGINT at once; SIGHUP replaces the workers one by one, and so is a worker
that says that it is worn. Knows nothing of HTTP or models.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Protocol


class Beat(Protocol):
    """What a worker calls when it is ready and once a second from then on; `worn` asks for another in its place."""

    def __call__(self, *, worn: bool = False) -> None:
        """Once."""


Serve = Callable[[Beat], None]
Renew = Callable[[Callable[[], bool]], None]

TICK = 1.0  # seconds
# Ticks without a beat after which a worker is taken for hung. Counted in the supervisor's own ticks: when all processes
# are paused together and go on, none of them was hung.
_PATIENCE = 6
_LONGEST_PAUSE = 30.0  # seconds
_WORN = b"!"
_FILES = Path("/dev/fd")
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_STOPPING, signal.SIGHUP, signal.SIGCHLD)

logger = logging.getLogger(__name__)


class _Worker:
    """A forked process that beats: it writes a byte into a pipe when it is ready, and every second from then on.

    Another byte when it had better be replaced. Raises OSError where the system has no room for another process.
    """

    def __init__(self, serve: Serve, generation: int, inherited: Iterable[int]) -> None:
        self.generation, self.ready, self.retired, self.silent = generation, False, False, 0
        self.worn = False
        with _closing_what_a_failure_leaves():
            self.pulse, pulse_end = os.pipe()
            for end in (self.pulse, pulse_end):
                os.set_blocking(end, False)
            self.process = multiprocessing.get_context("fork").Process(
                target=_work, args=(serve, pulse_end, (*inherited, self.pulse))
            )
            # A signal that arrives before the child has handlers of its own would be lost to it.
            signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
            try:
                self.process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            os.close(pulse_end)
        assert self.process.pid is not None
        self.pid = self.process.pid

    def retire(self) -> None:
        """Asks it to finish what it has begun, and to end."""
        self.retired = True
        self.process.terminate()


class Supervisor:
    """Keeps `count` workers alive, each of which calls `serve`, until it is told to stop.

    `serve` is given a beat, see there; it returns after a SIGTERM.
    `renew` is called on SIGHUP, before replacements are forked, with what tells whether it had better end because all
    is to stop. Workers that have not ended `grace` seconds after they were told to are killed.
    """

    def __init__(self, serve: Serve, count: int, grace: float, renew: Renew = lambda _: None) -> None:
        self._serve, self._count, self._grace, self._renew = serve, count, grace, renew
        self._workers: list[_Worker] = []
        self._generation = 0
        self._served = False  # some worker has been ready
        self._pause, self._not_before = 0.0, 0.0  # after a worker that died before it was ready
        self._signals: deque[int] = deque()
        self._code: int | None = None  # known when stopping
        self._deadline = 0.0
        self._wake: tuple[int, int] = (-1, -1)

    def run(self) -> int:
        """Returns when all workers have ended: the exit code, 0 if it was told to stop and all of them ended well."""
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        for number in _HANDLED:
            signal.signal(number, self._note)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        next_tick = time.monotonic() + TICK
        self._converge()
        while self._workers or self._code is None:
            pulses = [worker.pulse for worker in self._workers]
            ends = [worker.process.sentinel for worker in self._workers]
            wait([self._wake[0], *pulses, *ends], max(0.0, next_tick - time.monotonic()))
            _drain(self._wake[0])
            while self._signals:
                self._heed(self._signals.popleft())
            for worker in self._workers:
                self._listen(worker)
            self._bury()
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK
                self._tick()
            self._converge()
        return self._code

    def _converge(self) -> None:
        """Starts and retires workers until there are as many as there should be, all of the last generation.

        A replacement is started first, and the one it replaces is retired when it is ready.
        """
        while self._code is None:
            working = [worker for worker in self._workers if not worker.retired]
            outdated = [worker for worker in working if worker.worn or worker.generation != self._generation]
            starting = not all(worker.ready for worker in working)
            if len(working) > self._count and not starting:
                outdated[0].retire()
            elif (len(working) < self._count or (outdated and not starting)) and time.monotonic() >= self._not_before:
                self._start()
            else:
                return

    def _start(self) -> None:
        others = (*self._wake, *(worker.pulse for worker in self._workers))
        try:
            self._workers.append(_Worker(self._serve, self._generation, others))
        except OSError as error:
            if not self._served:
                logger.error("no worker can be started: %s; stopping", error)  # noqa: TRY400 - our stack says nothing
                self._stop(1)
                return
            self._put_off()
            logger.error("no worker can be started: %s; again in %.0f s", error, self._pause)  # noqa: TRY400

    def _put_off(self) -> None:
        """The next worker is started after a pause: each time in a row a longer one."""
        self._pause = min(max(1.0, 2 * self._pause), _LONGEST_PAUSE)
        self._not_before = time.monotonic() + self._pause

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _heed(self, number: int) -> None:
        """A signal."""
        if number in _STOPPING and self._code is None:
            logger.info("%s: stopping", signal.Signals(number).name)
            self._stop(0)
        elif number == signal.SIGINT:
            self._kill()
        elif number == signal.SIGHUP and self._code is None:
            logger.info("SIGHUP: replacing the workers one by one")
            self._renew(lambda: any(waiting in _STOPPING for waiting in self._signals))
            self._generation += 1

    def _stop(self, code: int) -> None:
        self._code, self._deadline = code, time.monotonic() + self._grace
        for worker in self._workers:
            worker.retire()

    def _kill(self) -> None:
        for worker in self._workers:
            logger.error("worker %d has not ended and is killed", worker.pid)
            worker.process.kill()

    def _listen(self, worker: _Worker) -> None:
        if heard := _drain(worker.pulse):
            worker.silent = 0
            if _WORN in heard and not worker.worn:
                worker.worn = True
                logger.warning("worker %d has become too large; another takes its place", worker.pid)
            if not worker.ready:
                worker.ready = self._served = True
                self._pause = 0.0
                logger.info("worker %d is ready", worker.pid)

    def _tick(self) -> None:
        """Looks for those that have not been heard of."""
        if self._code is not None and time.monotonic() > self._deadline:
            self._kill()
        for worker in self._workers:
            worker.silent += worker.ready and not worker.retired
            if worker.silent > _PATIENCE:
                logger.error("worker %d has been silent for %.0f s and is killed", worker.pid, _PATIENCE * TICK)
                worker.process.kill()

    def _bury(self) -> None:
        """Takes note of workers that have ended; as process 1, of orphans too."""
        for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
            self._workers.remove(worker)
            code = worker.process.exitcode
            worker.process.close()
            os.close(worker.pulse)
            if self._code is not None:
                self._code = self._code or int(code != 0)
            elif not worker.ready and not self._served:
                logger.error("worker %d could not start: stopping", worker.pid)
                self._stop(code or 1)
            elif not worker.retired:
                how = f"was ended by signal {-code}" if code and code < 0 else f"ended with exit code {code}"
                logger.error("worker %d %s; another takes its place", worker.pid, how)
                if not worker.ready:
                    self._put_off()
        if os.getpid() == 1:
            _reap_orphans({worker.pid for worker in self._workers})


@contextmanager
def _closing_what_a_failure_leaves() -> Iterator[None]:
    """Closes the files that were opened within, if that ends with an error; `multiprocessing` leaves four behind.

    There is a single thread, so that nobody else opens any.
    """
    before = _open_files()
    try:
        yield
    except OSError:
        for file in _open_files() - before:
            os.close(file)
        raise


def _open_files() -> set[int]:
    files = set()
    for path in _FILES.iterdir() if _FILES.is_dir() else ():
        with suppress(OSError):  # the list was a file, too
            os.fstat(int(path.name))
            files.add(int(path.name))
    return files


def _work(serve: Serve, pulse: int, inherited: Iterable[int]) -> None:
    """The life of a worker."""
    signal.set_wakeup_fd(-1)
    for number in _STOPPING:
        signal.signal(number, _leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
    # The supervisor's ends: while a sibling held one open, its end would not be noticed.
    for end in inherited:
        os.close(end)

    def beat(*, worn: bool = False) -> None:
        try:
            os.write(pulse, _WORN if worn else b".")
        except BlockingIOError:  # it is paused, and has enough to read
            pass
        except BrokenPipeError:  # it is gone, and nobody else would ever stop this process
            os.kill(os.getpid(), signal.SIGTERM)

    serve(beat)


def _leave(*_: object) -> None:
    # Who is told again while it ends has nothing more to do, and must not fail for it.
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def _drain(end: int) -> bytes:
    """Reads what there is in a pipe, if there is anything."""
    with suppress(BlockingIOError):
        return os.read(end, 4096)
    return b""


def _reap_orphans(workers: set[int]) -> None:
    """Waits for dead processes that others left to process 1, and leaves the workers to `multiprocessing`."""
    with suppress(ChildProcessError):
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and dead.si_pid not in workers:
            os.waitpid(dead.si_pid, 0)
