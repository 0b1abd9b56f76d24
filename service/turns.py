"""Engine threads, and what they work on next.

Work comes in stages of short pieces, so that a long request delays a short one by a few pieces and not by its length.
Callers take turns (`fairness`), however many requests each has; which of a caller's requests is next is for `sojourns`
to say. Knows nothing of networks, admission or HTTP.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from service.engine.evaluate import use_one_thread
from service.engine.evaluation import Piece
from service.engine.workspace import Workspace
from service.errors import DeadlineExceeded
from service.fairness import Line
from service.sojourns import Sojourns

Clock = Callable[[], float]


def _begin(_: Workspace) -> None:
    """The first piece of all work: stages are unrolled when its turn has come, and it takes no memory until then."""


@dataclass(slots=True, eq=False)
class Turn:
    """One request's work; all that changes is guarded by the lock of `Turns`.

    It takes about `seconds` of one core, and has taken `spent`. `done` is called once, on an engine thread, with what
    went wrong if anything did. `started` is None until the first piece begins. It is in line as long as any of its
    pieces is `ready`.
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
    spent: float = 0.0
    place: tuple[float, int] = (0.0, 0)  # see `sojourns.Work`


class Turns:
    """A fixed set of engine threads. With none, whoever calls `take` and `piece_done` plays their part."""

    def __init__(self, threads: int, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._callers: dict[str, Sojourns[Turn]] = {}  # those with work that is not over
        self._waiting: Line[Sojourns[Turn]] = Line()  # of these, each as often as it has work in line
        self._closing = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"engine-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, turn: Turn) -> None:
        """Puts work in line."""
        with self._changed:
            own = self._callers.get(turn.caller)
            if own is None:
                own = self._callers[turn.caller] = Sojourns()
            own.join(turn)
            self._waiting.put(turn.caller, own)
            self._changed.notify()

    def withdraw(self, turn: Turn) -> bool:
        """Drops work unless it has begun or is over, and says whether it did; `done` is not called then."""
        with self._changed:
            waits = turn.started is None and not turn.over
            if waits:
                self._end(turn)
            return waits

    def drop(self, turn: Turn) -> None:
        """Drops all pieces of this work that have not begun; `done` is not called any more."""
        with self._changed:
            if not turn.over:
                self._end(turn)

    def close(self) -> None:
        """Finishes what is in line and ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def take(self) -> tuple[Turn, Piece] | None:
        """The next piece, waiting for one; None when closed and nothing is left."""
        with self._changed:
            while True:
                while not self._waiting.length:
                    if self._closing and not self._callers:
                        return None
                    self._changed.wait()
                turn = self._waiting.take().take()
                piece = turn.ready.popleft()
                if turn.started is None:
                    now = self._clock()
                    if now > turn.deadline:
                        self._end(turn)
                        turn.done(DeadlineExceeded())
                        continue
                    turn.started = now
                turn.running += 1
                if turn.ready:
                    self._put_back(turn)
                return turn, piece

    def piece_done(self, turn: Turn, seconds: float, failure: Exception | None = None) -> None:
        """Notes that a piece took so long, and goes on to the next stage if it was the last of its own."""
        with self._changed:
            self._charge(turn, seconds)
            turn.running -= 1
            if turn.over or (failure is None and (turn.ready or turn.running)):
                return
        self._stage_done(turn, failure)

    def _stage_done(self, turn: Turn, failure: Exception | None) -> None:
        following: Sequence[Piece] | None = None
        began = self._clock()
        if failure is None:
            # Nobody else has a piece of this work now, so its next stage can be unrolled outside the lock.
            try:
                following = next(filter(None, turn.stages), None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the request that caused it gets it
                failure = error
        with self._changed:
            self._charge(turn, self._clock() - began)
            if turn.over:  # dropped meanwhile
                return
            if following is None:
                self._end(turn)
                turn.done(failure)
            else:
                turn.ready.extend(following)
                self._put_back(turn)

    def _serve(self) -> None:
        use_one_thread()
        workspace = Workspace()
        while self._serve_one(workspace):
            pass

    def _serve_one(self, workspace: Workspace) -> bool:
        """Does a piece, waiting for one; False when there will be none. Keeps nothing of it: a thread may wait long."""
        taken = self.take()
        if taken is None:
            return False
        turn, piece = taken
        failure: Exception | None = None
        began = self._clock()
        try:
            piece(workspace)
        except Exception as error:  # noqa: BLE001 - a thread that dies would take its queue with it
            failure = error
        self.piece_done(turn, self._clock() - began, failure)
        return True

    # With the lock held:

    def _put_back(self, turn: Turn) -> None:
        """Puts work in line again, for its pieces that are ready."""
        own = self._callers[turn.caller]
        own.put(turn)
        self._waiting.put(turn.caller, own)
        self._changed.notify(len(turn.ready))

    def _charge(self, turn: Turn, seconds: float) -> None:
        """Counts seconds that a work took, also where it was dropped meanwhile."""
        turn.spent += seconds
        self._waiting.charge(turn.caller, seconds)
        own = self._callers.get(turn.caller)
        if own is not None:
            own.give(seconds)

    def _end(self, turn: Turn) -> None:
        """Ends work that is not over, and forgets it."""
        turn.over = True
        own = self._callers[turn.caller]
        if turn.ready:
            turn.ready.clear()
            own.withdraw(turn)
            self._waiting.take_back(turn.caller)
        own.leave(turn)
        if not own.unfinished:
            del self._callers[turn.caller]
        if self._closing:
            self._changed.notify_all()
