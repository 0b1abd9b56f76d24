"""Turns and shares: nobody waits for another's flood, and of a single caller both are a plain queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import fairness
from service.errors import QueueFull, ShareExceeded
from service.fairness import Line, Shares

CALLERS = "abc"
COSTS = st.floats(min_value=0.01, max_value=1.0)


def filled(items: Sequence[tuple[str, float]]) -> Line[tuple[str, float]]:
    """A line of items, each its caller and what it takes."""
    line: Line[tuple[str, float]] = Line()
    for item in items:
        line.put(item[0], item)
    return line


def drained(line: Line[tuple[str, float]]) -> list[tuple[str, float]]:
    """Everything, charged as it is taken."""
    taken = []
    while line.length:
        taken.append(line.take())
        line.charge(*taken[-1])
    return taken


@given(st.lists(st.tuples(st.sampled_from(CALLERS), COSTS)))
def test_nothing_is_lost_and_each_callers_items_keep_their_order(items: list[tuple[str, float]]) -> None:
    """Of one caller, all of it is a plain queue."""
    taken = drained(filled(items))
    for caller in CALLERS:
        assert [item for item in taken if item[0] == caller] == [item for item in items if item[0] == caller]
    alone = [("a", cost) for _, cost in items]
    assert drained(filled(alone)) == alone


@given(st.lists(COSTS, min_size=20, max_size=40), st.lists(COSTS, min_size=20, max_size=40))
def test_while_all_have_work_they_are_given_alike(own: list[float], others: list[float]) -> None:
    """At any moment no two of them differ by more than two items, however large each one's are."""
    line = filled([*(("a", cost / 10) for cost in own), *(("b", cost) for cost in others)])
    given_to: Counter[str] = Counter()
    left = {"a": len(own), "b": len(others)}
    while all(left.values()):
        caller, cost = line.take()
        line.charge(caller, cost)
        given_to[caller] += cost  # type: ignore[assignment] # Counters count seconds as well
        left[caller] -= 1
        assert abs(given_to["a"] - given_to["b"]) <= 2.0


def test_whoever_asks_once_waits_for_one_item() -> None:
    """However long the others' line is, and however long they have been served alone."""
    line = filled([("flood", 1.0)] * 1000)
    for _ in range(500):
        line.charge(*line.take())
    line.put("once", ("once", 1.0))
    assert "once" in [line.take()[0], line.take()[0]]


def test_nobody_saves_up() -> None:
    """Who comes back after a long time starts where the others are by then: it takes turns with them, and no more."""
    line = filled([("rare", 1.0), *[("flood", 1.0)] * 100])
    for _ in range(50):
        line.charge(*line.take())
    for _ in range(10):
        line.put("rare", ("rare", 1.0))
    assert Counter(caller for caller, _ in drained(line)[:10])["rare"] == 5


def test_who_has_taken_much_pays_for_it_later() -> None:
    """What an item took is known when it is done: its caller's next one waits until others have had as much."""
    line = filled([("heavy", 10.0), ("heavy", 10.0), *[("light", 1.0)] * 20])
    assert [caller for caller, _ in drained(line)[:12]] == ["heavy", *["light"] * 10, "heavy"]


def test_without_a_clock_callers_alternate() -> None:
    """Also where nothing seems to take any time."""
    line = filled([*[("a", 0.0)] * 4, *[("b", 0.0)] * 4])
    assert "".join(line.take()[0] for _ in range(8)) == "abababab"


def test_who_makes_no_difference_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers that come and go leave nothing behind for ever."""
    monkeypatch.setattr(fairness, "_MOST_REMEMBERED", 10)
    line = filled([])
    for number in range(1000):
        line.put(str(number), (str(number), 1.0))
        line.charge(*line.take())
    assert len(line._owners) <= 11


def admit(shares: Shares, caller: str, times: int, seconds: float = 1.0) -> None:
    """Asks so often, and is taken in each time."""
    for _ in range(times):
        shares.admit(caller, seconds)


def test_a_flood_takes_nothing_from_others() -> None:
    """A caller that has filled the queue is refused, another has half as much room as if it were alone."""
    shares = Shares(1, 10, 100.0)
    admit(shares, "flood", 10)
    with pytest.raises(QueueFull):
        shares.admit("flood", 1.0)
    admit(shares, "other", 5)
    with pytest.raises(ShareExceeded) as refused:
        shares.admit("flood", 1.0)
    assert refused.value.retry_after == 15
    with pytest.raises(QueueFull):
        shares.admit("other", 1.0)


def test_it_is_so_by_work_too() -> None:
    """One that is larger than a share is admitted where its caller has nothing else there."""
    shares = Shares(1, 1000, 10.0)
    admit(shares, "flood", 10)
    admit(shares, "other", 1, 7.0)
    with pytest.raises(ShareExceeded):
        shares.admit("other", 1.0)
    admit(shares, "third", 1, 5.0)
    with pytest.raises(QueueFull):
        shares.admit("fourth", 1.0)


def test_all_together_have_a_bound() -> None:
    """However many callers there are: twice the queue at most."""
    shares = Shares(1, 10, 1e6)
    admit(shares, "flood", 10)
    for number in range(10):
        shares.admit(str(number), 1.0)
    with pytest.raises(QueueFull):
        shares.admit("one more", 1.0)
    assert shares.count == 20


def test_while_there_is_room_nobody_has_a_share() -> None:
    """A burst of one caller is taken whole, whoever else is there."""
    shares = Shares(1, 10, 100.0)
    for number in range(5):
        shares.admit(str(number), 1.0)
    admit(shares, "burst", 5)


def test_who_was_refused_is_refused_unheard_until_there_is_room() -> None:
    """An eighth of the queue has to be free again; those who have less than their share are heard all the while."""
    shares = Shares(1, 16, 100.0)
    admit(shares, "flood", 16)
    with pytest.raises(QueueFull):
        shares.foresee("flood")
    shares.foresee("other")
    shares.release("flood", 1.0)
    with pytest.raises(QueueFull):
        shares.foresee("flood")
    shares.release("flood", 1.0)
    shares.release("flood", 1.0)
    shares.foresee("flood")
    admit(shares, "flood", 2)
    shares.foresee("flood")  # it was not refused since


@given(st.lists(st.tuples(st.sampled_from("abcdef"), COSTS, st.booleans()), max_size=60))
def test_what_is_released_was_admitted(orders: list[tuple[str, float, bool]]) -> None:
    """Counts are those of what is there, and nobody is remembered who has nothing there."""
    shares, there = Shares(2, 8, 5.0), list[tuple[str, float]]()
    for caller, seconds, goes in orders:
        if goes and there:
            shares.release(*there.pop(0))
            continue
        try:
            shares.admit(caller, seconds)
        except (QueueFull, ShareExceeded):
            assert there
        else:
            there.append((caller, seconds))
        assert shares.count == len(there) <= 16
        assert shares.seconds == pytest.approx(sum(seconds for _, seconds in there))
    for one in there:
        shares.release(*one)
    assert (shares.count, shares.seconds, shares._own) == (0, 0.0, {})
