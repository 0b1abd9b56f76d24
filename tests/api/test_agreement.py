"""What worker processes agree on: one list, numbered, and who has followed; with real processes and their deaths."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.agreement import Agreed, Alone, Divided, Listed, Shared
from service.errors import NotApplicable
from tests.api.live import ROOT

FIRST = {"b": Listed(("1", "2")), "a": Listed(("1",))}
# Joins, and then does what it is told, a line for each order: the generation that it now knows or has reached.
_WORKER = """
import sys
from pathlib import Path
from service.agreement import Listed, Shared
shared = Shared(Path(sys.argv[1]))
print(shared.join(lambda: {"theirs": Listed(("9",))}).generation, flush=True)
for order in sys.stdin:
    if order.strip() == "follow":
        shared.reach(shared.current().generation)
    else:
        shared.change("theirs", tuple(order.split()))
    print(shared.current().generation, flush=True)
"""


class Worker:
    """Another process that shares the directory."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.joined = self._said()

    def told(self, order: str) -> int:
        """Its answer to an order."""
        assert self._process.stdin
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._said()

    def die(self) -> None:
        """At once, without a chance to tidy up."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()

    def _said(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Starts other processes; all end with the test."""
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker(tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.die()


def test_the_first_to_join_begins_the_list(tmp_path: Path, worker: Callable[[], Worker]) -> None:
    """Who comes later finds it, and its own idea of it does not count."""
    shared = Shared(tmp_path)
    assert shared.join(lambda: FIRST) == Agreed(1, FIRST)
    assert worker().joined == 1
    assert shared.current() == Agreed(1, FIRST)
    assert shared.all_reached(1)


def test_a_change_is_seen_by_all_and_reached_when_the_last_follows(
    tmp_path: Path, worker: Callable[[], Worker]
) -> None:
    """Whoever changes the list, each change has a number of its own; a process that is behind is waited for."""
    shared, other = Shared(tmp_path), worker()
    shared.join(lambda: FIRST)
    changed = shared.change("a", ("1", "2"))
    assert changed.generation == 2
    assert changed.models["a"] == Listed(("1", "2"), since=2)
    assert not shared.all_reached(2), "this process itself has not followed"
    shared.reach(2)
    assert not shared.all_reached(2), "the other one has not followed"
    assert other.told("follow") == 2
    assert shared.all_reached(2)
    assert other.told("1 2 3") == 3
    assert shared.current().models["theirs"] == Listed(("1", "2", "3"), since=3)
    shared.reach(3)
    assert not shared.all_reached(3)
    assert other.told("follow") == 3
    assert shared.all_reached(3)


def test_the_dead_are_not_waited_for(tmp_path: Path, worker: Callable[[], Worker]) -> None:
    """A process that was killed while it was behind holds nobody up, and who takes its place begins with the news."""
    shared, other = Shared(tmp_path), worker()
    shared.join(lambda: FIRST)
    shared.reach(shared.change("a", ()).generation)
    assert not shared.all_reached(2)
    other.die()
    assert shared.all_reached(2)
    assert worker().joined == 2


def test_changes_at_once_are_all_made(tmp_path: Path, worker: Callable[[], Worker]) -> None:
    """Of changes by many threads of several processes none is lost."""
    shared, others = Shared(tmp_path), [worker(), worker()]
    shared.join(lambda: FIRST)
    ready = threading.Barrier(6)

    def change(number: int) -> None:
        ready.wait()
        for turn in range(20):
            shared.change(f"mine-{number}", (str(turn),))

    def order(other: Worker) -> None:
        ready.wait()
        for turn in range(20):
            other.told(str(turn))

    with ThreadPoolExecutor(6) as pool:
        list(
            pool.map(
                lambda call: call(),
                [*(lambda n=n: change(n) for n in range(4)), *(lambda o=o: order(o) for o in others)],
            )
        )
    agreed = shared.current()
    assert agreed.generation == 1 + 6 * 20
    assert {name: listed.versions for name, listed in agreed.models.items()} == {
        **{name: listed.versions for name, listed in agreed.models.items() if name in {"a", "b"}},
        **{f"mine-{number}": ("19",) for number in range(4)},
        "theirs": ("19",),
    }


def test_who_is_alone_agrees_at_once() -> None:
    """The same list and the same numbers, without a file."""
    alone = Alone()
    assert alone.join(lambda: FIRST) == Agreed(1, FIRST)
    assert alone.change("c", ("1",)) == alone.current() == Agreed(2, {**FIRST, "c": Listed(("1",), 2)})
    assert alone.all_reached(2)


def test_who_shares_nothing_changes_nothing() -> None:
    """Several processes without a directory serve what they began with."""
    divided = Divided()
    divided.join(lambda: FIRST)
    with pytest.raises(NotApplicable, match="state directory"):
        divided.change("a", ())
    assert divided.current() == Agreed(1, FIRST)
