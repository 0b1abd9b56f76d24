"""Engine threads: whose work ends when, who is charged for what, and what is kept of work that is over.

Threads are played by the test, in a time of its own, in which each piece takes a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.evaluation import Piece
from service.turns import Turn, Turns
from tests.service.test_sojourns import by_turns

# When each work comes, and how many pieces it has.
ARRIVALS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), min_size=1, max_size=9).map(sorted)


class Hand:
    """Turns without threads, by a clock that the test moves; and when each work was done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = Turns(0, lambda: self.now)
        self.ends: dict[str, float] = {}

    def put(
        self, name: str, stages: Sequence[int], caller: str = "", unrolling: Callable[[], None] = lambda: None
    ) -> Turn:
        """Puts work in line, in stages of so many pieces; `unrolling` is called for each stage."""

        def unrolled() -> Iterator[list[Piece]]:
            for pieces in stages:
                unrolling()
                yield [lambda _: None] * pieces

        def done(failure: Exception | None) -> None:
            assert failure is None
            self.ends[name] = self.now

        turn = Turn(unrolled(), float(sum(stages)), 1e9, done, caller)
        self.turns.put(turn)
        return turn

    def take(self) -> tuple[Turn, float]:
        """Begins the next piece; returns whose it is, and how long it takes: work begins with a piece that is empty."""
        taken = self.turns.take()
        assert taken is not None
        turn, piece = taken
        return turn, 0.0 if piece.__name__ == "_begin" else 1.0

    def step(self) -> Turn:
        """Does the next piece."""
        turn, seconds = self.take()
        self.now += seconds
        self.turns.piece_done(turn, seconds)
        return turn


def ends(arrivals: Sequence[tuple[int, int]], threads: int, *, wide: bool) -> list[float]:
    """When works are done whose pieces can all be done at once (wide), or only one after the other."""
    hand, there = Hand(), list[Turn]()
    coming = [(float(came), number, pieces) for number, (came, pieces) in enumerate(arrivals)]
    busy: list[tuple[float, int, Turn, float]] = []  # threads: until when, in which order they began, with what
    begun = 0
    while coming or busy:
        hand.now = min(moments[0][0] for moments in (busy, coming) if moments)
        while busy and busy[0][0] <= hand.now:
            _, _, turn, seconds = heappop(busy)
            hand.turns.piece_done(turn, seconds)
        while coming and coming[0][0] <= hand.now:
            _, number, pieces = coming.pop(0)
            there.append(hand.put(str(number), [pieces] if wide else [1] * pieces))
        while len(busy) < threads and any(turn.ready for turn in there):
            turn, seconds = hand.take()
            begun += 1
            heappush(busy, (hand.now + seconds, begun, turn, seconds))
    return [hand.ends[str(number)] for number in range(len(arrivals))]


@pytest.mark.parametrize(("threads", "wide"), [(1, True), (1, False), (2, True), (3, True)])
@given(arrivals=ARRIVALS)
def test_none_is_done_later_than_by_turns(arrivals: list[tuple[int, int]], threads: int, wide: bool) -> None:
    """On one thread, or where works can use all of them: by less than a piece."""
    played = zip(ends(arrivals, threads, wide=wide), by_turns(arrivals, threads), strict=True)
    assert all(end < turns + 1 for end, turns in played)


def test_what_threads_cannot_share_may_be_done_later_than_by_turns() -> None:
    """Three equal works, each of which keeps one of two threads busy: the last pays for the others."""
    assert ends([(0, 10)] * 3, 2, wide=False) == [10, 10, 20]
    assert by_turns([(0, 10)] * 3, 2) == [15, 15, 15]


def test_unrolling_stages_is_charged() -> None:
    """Where one caller's stages take nine seconds each to unroll, another has ten pieces for each of its."""
    hand = Hand()

    def unrolling() -> None:
        hand.now += 9.0

    hand.put("slow", [1] * 100, "slow", unrolling)
    hand.put("quick", [1] * 100, "quick")
    pieces = Counter(hand.step().caller for _ in range(66))
    assert 9 <= pieces["quick"] / pieces["slow"] <= 11


@pytest.mark.parametrize("unrolled", [False, True])
def test_what_is_dropped_while_a_piece_of_it_runs_does_not_come_back(unrolled: bool) -> None:
    """Neither after that piece, nor after its next stage was unrolled: what follows is another's."""
    hand = Hand()
    dropped = hand.put("dropped", [1, 1], unrolling=lambda: hand.turns.drop(dropped) if unrolled else None)
    stays = hand.put("stays", [1] * 5)
    turn, seconds = hand.take()
    assert turn is dropped
    if not unrolled:
        hand.turns.drop(dropped)
    hand.turns.piece_done(dropped, seconds)
    assert not dropped.ready
    assert [hand.step() for _ in range(6)] == [stays] * 6
    assert list(hand.ends) == ["stays"]


def test_only_what_waits_is_withdrawn() -> None:
    """Work that has begun, or is over, stays as it is."""
    hand = Hand()
    first, second = hand.put("first", [1]), hand.put("second", [1])
    hand.step()
    assert [hand.turns.withdraw(turn) for turn in (first, second, second)] == [False, True, False]
    hand.step()
    assert (first.over, list(hand.ends)) == (True, ["first"])
    assert not hand.turns.withdraw(first)
