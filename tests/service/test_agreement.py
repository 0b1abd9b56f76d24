"""What worker processes agree on: one list, numbered, and who has followed; with forked processes and their deaths."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service import agreement
from service.agreement import Agreed, Alone, Asked, Listed, Shared
from tests.api.live import ROOT
from tests.service.sharers import also, only

FIRST = only(a=("1",), b=("1", "2"))
Tell = Callable[..., Any]


@pytest.fixture
def tell() -> Iterator[Tell]:
    """Tells one of the processes, or several with commas between them, what to do: what it answers. See `sharers`."""
    script = Path(__file__).with_name("sharers.py")
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as processes:
        assert processes.stdin
        assert processes.stdout

        def told(names: str, order: str) -> Any:
            processes.stdin.write(f"{names} {order}\n")  # type: ignore[union-attr]
            processes.stdin.flush()  # type: ignore[union-attr]
            answers = [ast.literal_eval(processes.stdout.readline()) for _ in names.split(",")]  # type: ignore[union-attr]
            return answers if "," in names else answers[0]

        yield told
        processes.stdin.close()
        assert processes.wait() == 0


def test_the_first_to_join_begins_the_list(tell: Tell) -> None:
    """Who comes later finds it as it is by then."""
    assert tell("one", "join") == 1
    assert tell("one", "change a 1 2") == 2
    assert tell("two", "join") == 2
    assert tell("two", "list") == (2, {"a": ("1", "2"), "b": ("1", "2")})


def test_a_change_is_seen_by_all_and_reached_when_the_last_follows(tell: Tell) -> None:
    """Whoever changes the list, each change has a number of its own; a process that is behind is waited for."""
    tell("one,two,three", "join")
    assert tell("one", "reached 1") is True
    assert tell("two", "change a 1 2") == 2
    assert tell("two", "reached 2") is False, "it has not followed itself"
    assert tell("two,one", "follow") == [2, 2]
    assert [tell(name, "reached 2") for name in ("one", "two")] == [False, False], "the third has not followed"
    assert tell("three", "follow") == 2
    assert [tell(name, "reached 2") for name in ("one", "two", "three")] == [True] * 3
    assert tell("one", "change b") == 3
    assert tell("three", "list") == (3, {"a": ("1", "2"), "b": ()})


def test_who_is_two_changes_behind_is_waited_for(tell: Tell) -> None:
    """And who follows at once reaches both."""
    tell("one,two", "join")
    tell("one", "change a 2")
    tell("one", "change a 3")
    tell("one", "follow")
    assert tell("one", "reached 3") is False
    assert tell("two", "follow") == 3
    assert tell("one", "reached 2") is True
    assert tell("one", "reached 3") is True


def test_the_dead_and_those_who_leave_are_not_waited_for(tell: Tell) -> None:
    """A process that is killed while it is behind holds nobody up, and who takes its place begins with the news."""
    tell("one,two,three", "join")
    tell("one", "change a 2")
    tell("one", "follow")
    assert tell("one", "reached 2") is False
    tell("two", "die")
    assert tell("one", "reached 2") is False
    tell("three", "leave")
    assert tell("one", "reached 2") is True
    assert tell("four", "join") == 2
    assert tell("one", "reached 2") is True


def test_a_list_is_renewed_for_those_who_join(tell: Tell) -> None:
    """It has other models, and the same number: nobody follows, until the next change makes one list for all."""
    tell("one", "renew c 1")
    assert tell("one", "join") == 1, "before anybody joined there is nothing to renew"
    assert tell("one", "list") == (1, {"a": ("1",), "b": ("1", "2")})
    tell("one", "renew c 7")
    assert tell("two", "join") == 1
    assert tell("two", "list") == (1, {"c": ("7",)})
    assert tell("two", "reached 1") is True
    assert tell("one", "change d 1") == 2
    assert tell("two", "list") == (2, {"c": ("7",), "d": ("1",)})


def test_changes_at_once_are_all_made(tell: Tell) -> None:
    """Of changes by many threads of several processes none is lost."""
    tell("one,two,three", "join")
    tell("one,two,three", "hurry any 25")
    assert tell("one", "list") == (1 + 3 * 4 * 25, {"a": ("1",), "b": ("1", "2"), "any": ("24",)})


@pytest.mark.parametrize("made", [Alone, Shared])
def test_who_is_the_only_one_agrees_at_once(made: type[Alone | Shared]) -> None:
    """The same list and the same numbers, with a file and without."""
    alone = made()
    a, b = Listed({"1": Asked(1)}), Listed({"1": Asked(1), "2": Asked(1)})
    assert alone.generation == 0
    assert alone.join(FIRST) == Agreed(1, {"a": a, "b": b})
    c = Listed({"1": Asked(2, "stamped")}, "1")
    assert alone.change(lambda _, models: {**models, "c": c}) == alone.current() == Agreed(2, {"a": a, "b": b, "c": c})
    assert alone.generation == 2
    alone.reach(2)
    assert alone.all_reached(2)
    assert alone.lead()
    alone.leave()


@pytest.mark.parametrize("made", [Alone, Shared])
def test_an_edit_that_changes_nothing_is_no_new_generation(made: type[Alone | Shared]) -> None:
    """Nobody has anything to follow."""
    alone = made()
    alone.join(FIRST)
    assert alone.change(lambda _, models: dict(models)).generation == alone.generation == 1
    assert alone.change(also(c=())).generation == 2


def test_one_process_leads_until_it_leaves_or_dies(tell: Tell) -> None:
    """Whoever asks first; asked again it still does, and another takes over at once when it is gone."""
    tell("one,two,three", "join")
    assert tell("two", "lead") is True
    assert tell("one", "lead") is False
    assert tell("two", "lead") is True
    tell("two", "leave")
    assert tell("one", "lead") is True
    assert tell("three", "lead") is False
    tell("one", "die")
    assert tell("three", "lead") is True


def test_who_dies_while_it_writes_leaves_what_was_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the list and its number, however often: the others can read what there was, and change it."""
    shared, write = Shared(), os.pwrite

    class Died(BaseException):
        pass

    def dying(file: int, content: bytes, place: int) -> int:
        if place == 0:
            raise Died
        return write(file, content, place)

    agreed = shared.join(FIRST)
    for generation in (2, 3, 4):
        with monkeypatch.context() as context:
            context.setattr(os, "pwrite", dying)
            for _ in range(2):
                with pytest.raises(Died):
                    shared.change(also(another=("1", "2", "3")))
        assert shared.current() == agreed
        agreed = shared.change(also(one=(str(generation),)))
        assert agreed.generation == generation


def test_systems_without_files_in_memory_have_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that no directory names any more does as well."""
    monkeypatch.delattr(agreement.os, "memfd_create")
    assert Shared().join(FIRST).generation == 1
