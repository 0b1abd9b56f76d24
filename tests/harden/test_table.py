"""The table of checks: whatever goes wrong with one of them, there is a row that says so."""

from __future__ import annotations

from tests.harden.__main__ import run
from tests.harden.checks import CHECKS, Check
from tests.harden.measures import Figure


def test_there_are_thirty() -> None:
    """Each has tests or a measurement, or says what is open."""
    assert list(CHECKS) == list(range(1, 31))
    assert all(check.tests or check.measure or check.open for check in CHECKS.values())


def test_a_row_says_what_was_seen() -> None:
    """Enough, not enough, or nothing at all because the measurement itself broke."""

    def broken() -> Figure:
        raise TimeoutError("it hung\nfor ever")

    assert run(Check("a", measure=lambda: Figure(good=True, said="all"))) == (True, "all")
    assert run(Check("b", measure=lambda: Figure(good=False, said="3 of 4"))) == (
        False,
        "**failed**: **not enough**: 3 of 4",
    )
    assert run(Check("c", measure=broken)) == (False, "**failed**: TimeoutError: it hung")
    assert run(Check("d", open="not yet")) == (True, "open: not yet")


def test_tests_that_fail_fail_the_check() -> None:
    """As one that is not there does."""
    good, said = run(Check("e", ("tests/harden/test_nothing.py",)))
    assert not good
    assert said.startswith("**failed**: ")
