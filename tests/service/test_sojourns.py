"""One caller's works: none is done later than by turns, equal ones one by one, and wrong estimates hold up nobody.

Works are done in pieces of a second, on one core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from service.sojourns import ProcessorSharing, Sojourns

LENGTHS = st.integers(1, 8)
# When each comes, and how long it is.
ARRIVALS = st.lists(st.tuples(st.integers(0, 30), LENGTHS), min_size=1, max_size=12).map(sorted)


@dataclass(eq=False)
class Work:
    """A work, what it was thought to take, and what is left of it."""

    number: int
    length: int
    seconds: float
    spent: float = 0.0
    place: tuple[float, int] = (0.0, 0)


def done(
    arrivals: Sequence[tuple[int, int]], estimates: Sequence[float]
) -> tuple[list[int], list[tuple[int, set[int]]]]:
    """When each work is done; and which one had each piece, with those that were late and waited then."""
    line, sharing = Sojourns[Work](), ProcessorSharing()
    coming = deque(Work(number, length, estimates[number]) for number, (_, length) in enumerate(arrivals))
    waiting: set[Work] = set()
    now, ends, order = 0, [0] * len(arrivals), []
    while coming or waiting:
        while coming and arrivals[coming[0].number][0] <= now:
            work = coming.popleft()
            line.join(work)
            waiting.add(work)
            assert work.place[0] == sharing.join(work.seconds)
        now += 1
        if not waiting:
            continue
        work = line.take()
        waiting.remove(work)
        order.append((work.number, {late.number for late in waiting if late.place[0] <= sharing.now}))
        work.spent += 1.0
        for clock in (line, sharing):
            clock.give(1.0)
        if work.spent < work.length:
            line.put(work)
            waiting.add(work)
        else:
            ends[work.number] = now
            line.leave(work)
            sharing.leave(work.place[0], work.place[0] - work.seconds + work.length)
    assert line.unfinished == 0
    return ends, order


def by_turns(arrivals: Sequence[tuple[int, int]], cores: int = 1) -> list[Fraction]:
    """When each would be done if all that are there shared the cores evenly at every moment: the slow way."""
    left = [Fraction(length, cores) for _, length in arrivals]
    ends, now = [Fraction(0)] * len(arrivals), Fraction(0)
    while any(left):
        there = [number for number, (came, _) in enumerate(arrivals) if came <= now and left[number]]
        following = [Fraction(came) for came, _ in arrivals if came > now]
        step = min([left[number] * len(there) for number in there] + [came - now for came in following])
        now += step
        for number in there:
            left[number] -= step / len(there)
            if not left[number]:
                ends[number] = now
    return ends


@given(ARRIVALS)
def test_none_is_done_later_than_by_turns(arrivals: list[tuple[int, int]]) -> None:
    """Where their lengths are known, whenever they come."""
    ends, _ = done(arrivals, [float(length) for _, length in arrivals])
    assert all(end <= turns + Fraction(1, 10**6) for end, turns in zip(ends, by_turns(arrivals), strict=True))


@given(st.integers(1, 12), LENGTHS)
def test_equal_ones_are_done_one_after_the_other(works: int, length: int) -> None:
    """By turns all would be done at the end: on average they take half as long."""
    ends, _ = done([(0, length)] * works, [float(length)] * works)
    assert ends == [length * (number + 1) for number in range(works)]


def test_a_short_one_does_not_wait_for_long_ones() -> None:
    """It is done at once, and those go on where they were."""
    ends, _ = done([(0, 8), (0, 8), (3, 1)], [8.0, 8.0, 1.0])
    assert ends == [9, 17, 4]


@given(ARRIVALS, st.data())
def test_whatever_was_estimated_all_is_done_and_who_is_late_takes_turns(
    arrivals: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Nothing is lost, the core never idles; who is late waits for a piece of each other that is, and one more."""
    estimates = data.draw(st.lists(st.floats(0.01, 20.0), min_size=len(arrivals), max_size=len(arrivals)))
    ends, order = done(arrivals, estimates)
    assert sorted(number for number, _ in order) == sorted(
        number for number, (_, length) in enumerate(arrivals) for _ in range(length)
    )
    assert max(ends) == max(by_turns(arrivals))
    for place, (_, late) in enumerate(order, 1):
        assert late <= {number for number, _ in order[place : place + len(late) + 1]}


def test_who_was_thought_short_does_not_hold_up_others() -> None:
    """Ten that take a hundred times as long as was thought: one that comes then gets every eleventh piece at least."""
    ends, _ = done([*[(0, 100)] * 10, (50, 3)], [1.0] * 10 + [3.0])
    assert ends[-1] <= 50 + 3 * 11


def test_who_was_thought_long_leaves_nothing_behind() -> None:
    """What works did not take is not shared out: the clock remembers no more than what would not be done."""
    sharing = ProcessorSharing()
    for _ in range(1000):
        end = sharing.join(3.0)
        sharing.give(1.0)
        sharing.leave(end, end - 2.0)
    assert len(sharing._ends) <= 1


@given(ARRIVALS, st.data())
def test_who_is_withdrawn_is_gone_and_nobody_else(arrivals: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whether it is late or not."""
    works = [Work(number, length, length) for number, (_, length) in enumerate(arrivals)]
    line = Sojourns[Work]()
    for work in works:
        line.join(work)
    line.give(data.draw(st.floats(0.0, 100.0)))
    if data.draw(st.booleans()):  # those that are late are then told from the others
        line.put(line.take())
    leaving = data.draw(st.sets(st.sampled_from(works)))
    for work in leaving:
        line.withdraw(work)
        line.leave(work)
    staying = [line.take() for _ in range(len(works) - len(leaving))]
    assert line.unfinished == len(staying)
    assert set(staying) == set(works) - leaving
