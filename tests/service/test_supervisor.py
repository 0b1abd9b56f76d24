"""Worker processes: replaced when they die or hang, stopped together, never left behind. All of it is real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.api.live import ROOT

Start = Callable[..., "Crew"]


class Crew:
    """A supervisor of idle workers in a process of its own, see `crew`."""

    def __init__(self, orders: Path, order: str = "", count: int = 2, grace: float = 60, within: tuple[str, ...] = ()):
        self._orders = orders
        self.order(order)
        self.process = subprocess.Popen(
            [*within, sys.executable, "-m", "tests.service.crew", str(count), str(grace)],
            cwd=ROOT,
            env={**os.environ, "CREW": str(orders)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.seen: list[str] = []
        self.pid = int(self.expect(r"supervisor (\d+)"))

    def order(self, order: str) -> None:
        """What workers that start from now on do."""
        self._orders.write_text(order)

    def expect(self, pattern: str) -> str:
        """Reads on to the next line with this in it: its group, or all that matched."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(line)
            if found := re.search(pattern, line):
                return found[found.re.groups]
        raise AssertionError(f"it ended without {pattern!r}:\n{''.join(self.seen)}")

    def ready(self) -> int:
        """Waits for another worker to be ready: its process id."""
        return int(self.expect(r"^ready (\d+)"))

    def end(self) -> int:
        """Waits until every process has ended: the exit code."""
        assert self.process.stdout is not None
        self.seen += self.process.stdout  # ends when nobody holds the other side any more
        return self.process.wait()

    def stop(self) -> int:
        """Asks it to end: the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts crews; whatever is left of them when the test ends is killed."""
    crews: list[Crew] = []

    def started(*arguments: object, **options: object) -> Crew:
        crews.append(Crew(tmp_path / "orders", *arguments, **options))  # type: ignore[arg-type]
        return crews[-1]

    yield started
    for crew in crews:
        with suppress(ProcessLookupError):
            os.killpg(crew.process.pid, signal.SIGKILL)
        crew.end()
        crew.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_stop_together(start: Start, number: signal.Signals) -> None:
    """Told to stop, it ends its workers and then itself, and calls that a success."""
    crew = start()
    crew.ready(), crew.ready()
    crew.process.send_signal(number)
    assert crew.end() == 0


def test_a_worker_that_dies_is_replaced(start: Start) -> None:
    """Another takes its place, the others stay; which signal it was is told."""
    crew = start()
    first, second = crew.ready(), crew.ready()
    os.kill(first, signal.SIGKILL)
    third = crew.ready()
    assert third not in {first, second}
    os.kill(second, 0)
    assert f"worker {first} was ended by signal 9; another takes its place\n" in crew.seen
    assert crew.stop() == 0


def test_a_worker_that_leaves_is_replaced(start: Start) -> None:
    """Also one that was told to stop by somebody else."""
    crew = start()
    first, _ = crew.ready(), crew.ready()
    os.kill(first, signal.SIGTERM)
    crew.ready()
    assert f"worker {first} ended with exit code 0; another takes its place\n" in crew.seen
    assert crew.stop() == 0


def test_a_worker_that_hangs_is_replaced(start: Start) -> None:
    """One that is not heard of any more is killed: here it is paused, and would never end by itself."""
    crew = start()
    first, _ = crew.ready(), crew.ready()
    os.kill(first, signal.SIGSTOP)
    crew.expect(f"worker {first} has been silent")
    assert crew.ready() != first
    assert crew.stop() == 0


def test_a_worker_that_is_worn_is_replaced(start: Start) -> None:
    """One that says so leaves when its replacement is ready, and not before; the others stay."""
    crew = start(order="", count=2)
    first = crew.ready()
    second = crew.ready()
    crew.order("grow")
    os.kill(first, signal.SIGKILL)
    worn = crew.ready()
    crew.order("")
    crew.expect(f"worker {worn} has become too large; another takes its place")
    crew.ready()
    while Path(f"/proc/{worn}").exists():
        pass
    os.kill(second, 0)
    assert crew.stop() == 0


def test_a_signal_replaces_all_workers_one_by_one(start: Start) -> None:
    """After SIGHUP each worker leaves when its replacement is ready, and what is renewed is renewed before."""
    crew = start(count=3)
    old = [crew.ready() for _ in range(3)]
    crew.process.send_signal(signal.SIGHUP)
    crew.expect("renewed")
    new = {crew.ready() for _ in range(3)}
    assert not new & set(old)
    assert crew.stop() == 0
    starts = [line for line in crew.seen if line.startswith("ready")]
    assert len(starts) == 6


def test_a_replacement_that_fails_leaves_the_old_worker_in_place(start: Start) -> None:
    """Where new workers can't start, the old ones stay, it is tried again, and works once it can."""
    crew = start()
    old = {crew.ready(), crew.ready()}
    crew.order("fail")
    crew.process.send_signal(signal.SIGHUP)
    crew.expect("failing")
    crew.expect("ended with exit code 5; another takes its place")
    for pid in old:
        os.kill(pid, 0)
    crew.order("")
    assert not {crew.ready(), crew.ready()} & old
    assert crew.stop() == 0


def test_where_no_process_can_be_made_it_is_tried_again(start: Start) -> None:
    """The others go on, no file stays open for it, and it can be told to stop meanwhile."""
    crew = start()
    first, second = (int(crew.expect(r"worker (\d+) is ready")) for _ in range(2))
    files = Path(f"/proc/{crew.process.pid}/fd")
    before = len(list(files.iterdir()))
    crew.order("full")
    os.kill(first, signal.SIGKILL)
    crew.expect(r"no worker can be started: .*Cannot allocate memory; again in 1 s")
    os.kill(second, 0)
    crew.order("")
    third = int(crew.expect(r"worker (\d+) is ready"))
    assert len(list(files.iterdir())) == before
    crew.order("full")
    os.kill(third, signal.SIGKILL)
    crew.expect("no worker can be started")
    assert crew.stop() == 0


def test_where_no_process_can_be_made_at_first_it_ends(start: Start) -> None:
    """With a line that says so."""
    crew = start("full")
    assert crew.end() == 1
    assert crew.seen[-1] == "no worker can be started: [Errno 12] Cannot allocate memory; stopping\n"


def test_it_stops_while_it_renews(start: Start) -> None:
    """SIGTERM is heeded while what SIGHUP began goes on."""
    crew = start()
    crew.ready(), crew.ready()
    crew.order("slow")
    crew.process.send_signal(signal.SIGHUP)
    crew.expect("renewing")
    assert crew.stop() == 0


def test_a_first_worker_that_fails_ends_it_all(start: Start) -> None:
    """What can't start the first time won't the second: it ends with the worker's exit code."""
    assert start("fail").end() == 5


def test_who_does_not_stop_in_time_is_killed(start: Start) -> None:
    """When the grace period is over nobody is waited for, and the exit code says that it was not a clean stop."""
    crew = start("stubborn", grace=0.1)
    crew.ready(), crew.ready()
    assert crew.stop() == 1
    assert sum("has not ended and is killed" in line for line in crew.seen) >= 2


def test_a_second_interrupt_does_not_wait(start: Start) -> None:
    """Ctrl-C twice ends it at once, however long the grace period is."""
    crew = start("stubborn", grace=10_000)
    crew.ready(), crew.ready()
    crew.process.send_signal(signal.SIGINT)
    crew.expect("SIGINT: stopping")
    crew.process.send_signal(signal.SIGINT)
    assert crew.end() == 1


def test_workers_do_not_outlive_their_supervisor(start: Start) -> None:
    """When it is killed, its workers notice and end by themselves."""
    crew = start()
    crew.ready(), crew.ready()
    crew.process.kill()
    assert crew.end() == -signal.SIGKILL


def test_pausing_everybody_is_not_hanging(start: Start) -> None:
    """Processes that were paused together and go on together are all still there."""
    crew = start()
    old = {crew.ready(), crew.ready()}
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.killpg(crew.process.pid, number)
    assert crew.stop() == 0
    assert not any("silent" in line for line in crew.seen), old


def test_as_process_1_it_reaps_orphans(start: Start) -> None:
    """In a process namespace of its own, as in a container, no zombies stay, and SIGTERM is heeded."""
    within = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces can be made here")
    crew = start("orphan", within=within)
    assert crew.pid == 1
    crew.ready(), crew.ready()
    assert sum(line.startswith("reaped") for line in crew.seen) == 2
    unshare = crew.process.pid
    os.kill(int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text()), signal.SIGTERM)
    assert crew.end() == 0
