"""Engine threads, and how work takes turns on them.

Work comes as stages of short pieces, so that a long request holds up a small one by a few of them, not by its length.
Callers take turns, however many requests each has; of one caller's, each is done no later than if all took turns (see
`sojourns`). Knows nothing of networks, admission or HTTP.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from service.engine.evaluate import use_one_thread
from service.engine.evaluation import Piece
from service.engine.workspace import Workspace
from service.errors import DeadlineExceeded
from service.fairness import Line
from service.sojourns import ProcessorSharing, Sojourns

Clock = Callable[[], float]


def _begin(_: Workspace) -> None:
    """The first piece of all work: it is unrolled only when its turn has come, and holds no memory until then."""


@dataclass(slots=True, eq=False)
class Turn:
    """One request's work; what is not the caller's is guarded by the lock of `Turns`.

    It takes about so many `seconds` of one core. `done` is called once, on an engine thread, with what went wrong if
    anything did. `started` is None until the first piece begins.
    """

    stages: Iterator[Sequence[Piece]]
    seconds: float
    deadline: float
    done: Callable[[Exception | None], None]
    caller: str = ""
    started: float | None = None
    ready: deque[Piece] = field(default_factory=lambda: deque([_begin]))
    running: int = 0
    over: bool = False
    # Its place among its caller's: see `sojourns`.
    sharing: ProcessorSharing = field(default_factory=ProcessorSharing)
    end: float = 0.0
    number: int = 0
    spent: float = 0.0

    @property
    def late(self) -> bool:
        """Whether it would be done by now if it had taken turns, and as long as was thought."""
        return self.end <= self.sharing.now


class _Unfinished:
    """How many works of one caller are not over, and how they would share a core."""

    __slots__ = ("count", "sharing")

    def __init__(self) -> None:
        self.count, self.sharing = 0, ProcessorSharing()


class Turns:
    """A fixed set of engine threads."""

    def __init__(self, threads: int, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: Line[Turn] = Line(Sojourns)
        self._unfinished: dict[str, _Unfinished] = {}
        self._number = count()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"engine-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, turn: Turn) -> None:
        """Puts work in line."""
        with self._changed:
            own = self._unfinished.get(turn.caller)
            if own is None:
                own = self._unfinished[turn.caller] = _Unfinished()
            own.count += 1
            turn.sharing, turn.number = own.sharing, next(self._number)
            turn.end = own.sharing.join(turn.seconds)
            self._waiting.put(turn.caller, turn)
            self._changed.notify()

    def drop(self, turn: Turn) -> None:
        """Drops what has not begun of this work; `done` is not called any more."""
        with self._changed:
            self._end(turn)

    def close(self) -> None:
        """Finishes what is in line and ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        use_one_thread()
        workspace = Workspace()
        while (taken := self._take()) is not None:
            turn, piece = taken
            began = self._clock()
            try:
                piece(workspace)
                failure = None
            except Exception as error:  # noqa: BLE001 - a thread that dies would take its queue with it
                failure = error
            self._piece_done(turn, failure, self._clock() - began)

    def _take(self) -> tuple[Turn, Piece] | None:
        """The next piece, waiting for one; None when closed and nothing is left."""
        with self._changed:
            while True:
                while not self._waiting.length:
                    if self._closing and not self._unfinished:
                        return None
                    self._changed.wait()
                turn = self._waiting.take()
                if turn.over:
                    continue
                if turn.started is None:
                    now = self._clock()
                    if now > turn.deadline:
                        self._end(turn)
                        turn.done(DeadlineExceeded())
                        continue
                    turn.started = now
                piece = turn.ready.popleft()
                turn.running += 1
                if turn.ready:
                    self._waiting.put(turn.caller, turn)
                    self._changed.notify()
                return turn, piece

    def _piece_done(self, turn: Turn, failure: Exception | None, seconds: float) -> None:
        with self._changed:
            self._waiting.charge(turn.caller, seconds)
            turn.sharing.give(seconds)
            turn.spent += seconds
            turn.running -= 1
            if turn.over or (failure is None and (turn.ready or turn.running)):
                return
        following: Sequence[Piece] | None = None
        if failure is None:
            # Only the last piece of a stage comes here, so the next stage can be unrolled outside the lock.
            try:
                following = next(turn.stages, None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the request that caused it gets it
                failure = error
        with self._changed:
            if following is None:
                if self._end(turn):
                    turn.done(failure)
            else:  # if it was dropped meanwhile, `_take` skips it
                turn.ready.extend(following)
                self._waiting.put(turn.caller, turn)
                self._changed.notify(len(following))

    def _end(self, turn: Turn) -> bool:
        """Counts a turn as finished; the lock is held. False if it was before."""
        if turn.over:
            return False
        turn.over = True
        turn.ready.clear()
        own = self._unfinished[turn.caller]
        own.count -= 1
        if own.count:
            own.sharing.leave(turn.end, turn.end - turn.seconds + turn.spent)
        else:
            del self._unfinished[turn.caller]
        if self._closing:
            self._changed.notify_all()
        return True
