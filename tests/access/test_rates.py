"""Rates: so many in a window, whoever counts, and no more."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.rates import Rates, SharedWindows


class Clock:
    """Time that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@given(
    amount=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=60),
)
def test_nobody_asks_more_often_than_they_may(amount: int, steps: list[tuple[str, float]]) -> None:
    """In a window that begins with a request, `amount` pass, for each caller; who waits as told passes."""
    clock = Clock()
    rates = Rates(clock)
    windows: dict[str, tuple[float, int]] = {}
    for name, pause in steps:
        clock.now += pause
        begun, passed = windows.get(name, (clock.now, 0))
        if clock.now - begun >= 2:
            begun, passed = clock.now, 0
        wait = rates.wait(name, f"{amount}/2 second")
        assert (wait == 0) is (passed < amount)
        assert wait == 0 or begun + 2 <= clock.now + wait < begun + 4
        windows[name] = begun, passed + (wait == 0)


def test_processes_count_together() -> None:
    """What a forked process has counted is known here."""
    rates = Rates(Clock())
    child = os.fork()
    if child == 0:
        os._exit(sum(rates.wait("a", "3/second") for _ in range(2)))
    assert os.waitpid(child, 0)[1] == 0
    assert [rates.wait("a", "3/second") for _ in range(2)] == [0, 1]


def test_more_callers_than_places_are_no_error() -> None:
    """Places are taken again when their windows have ended; until then whoever ends first gives way."""
    clock = Clock()
    windows = SharedWindows(clock)
    for number in range(40_000):
        assert windows.incr(f"caller {number}", 10) >= 1
    clock.now += 11
    assert [windows.get(f"caller {number}") for number in range(0, 40_000, 1000)] == [0] * 40
    assert [windows.incr("caller 1", 10), windows.incr("caller 1", 10)] == [1, 2]
    windows.clear("caller 1")
    assert windows.get("caller 1") == 0
    windows.incr("caller 1", 10)
    windows.reset()
    assert (windows.get("caller 1"), windows.check()) == (0, True)


@pytest.mark.parametrize("rate", ["10/second", "500/minute", "100 per hour", "1/5 second"])
def test_rates_are_read_as_people_write_them(rate: str) -> None:
    """The first request passes."""
    assert Rates(Clock()).wait("a", rate) == 0
