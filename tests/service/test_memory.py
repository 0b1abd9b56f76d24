"""The guard of memory, with readings that the test makes up, and control groups that are plain files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from service import memory
from service.memory import GROWN, PATIENCE, MemoryGuard, Reading, limited_group, reader
from tests.service.test_catalogue import until


class Machine:
    """Readings as the test says; `relieve` frees what it is told to."""

    def __init__(self, used: float, own: float = 10.0) -> None:
        self.used, self.own, self.frees, self.relieved = used, own, 0.0, 0

    def read(self) -> Reading:
        """100 bytes are all there is."""
        return Reading(self.used, 100.0, self.own)

    def relieve(self) -> None:
        """Caches are emptied."""
        self.relieved += 1
        self.used -= self.frees


def test_caches_are_emptied_first() -> None:
    """Where that is enough, nothing is refused; where it is not, memory is short until there is more of it."""
    machine = Machine(used=80.0)
    guard = MemoryGuard(0.9, machine.read, machine.relieve)
    guard.look()
    assert (guard.short, machine.relieved) == (False, 0)
    machine.used, machine.frees = 95.0, 10.0
    guard.look()
    assert (guard.short, machine.relieved) == (False, 1)
    machine.used, machine.frees = 95.0, 0.0
    guard.look()
    assert guard.short
    machine.used = 80.0
    guard.look()
    assert not guard.short


def test_a_worker_that_stays_too_large_is_worn() -> None:
    """One that has grown, and only after a while; what was as large from the beginning would be so again."""
    for growth, worn in ((GROWN, True), (1.0, False)):
        machine = Machine(used=50.0)
        guard = MemoryGuard(0.9, machine.read, machine.relieve)
        guard.look()
        machine.used, machine.own = 95.0, 10.0 * growth
        for _ in range(PATIENCE - 1):
            guard.look()
        assert not guard.worn
        guard.look()
        assert guard.worn == worn


async def test_a_share_of_nothing_is_no_guard() -> None:
    """Nothing is looked at."""
    machine = Machine(used=100.0)
    guard = MemoryGuard(0.0, machine.read, machine.relieve)
    guard.look()
    await guard.watch()
    assert (guard.short, machine.relieved) == (False, 0)


async def test_what_can_not_be_read_for_a_moment_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may open no more files goes on to look."""
    monkeypatch.setattr(memory, "LOOK_SECONDS", 0.0)
    machine, failures = Machine(used=95.0), [OSError(24, "Too many open files")]

    def read() -> Reading:
        if failures:
            raise failures.pop()
        return machine.read()

    guard = MemoryGuard(0.9, read, machine.relieve)
    task = asyncio.create_task(guard.watch())
    await until(lambda: guard.short)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_where_nothing_can_be_read_nothing_is_short() -> None:
    """As on other systems than Linux."""
    guard = MemoryGuard(0.5, lambda: None, lambda: None)
    guard.look()
    assert not guard.short


def group(folder: Path, limit: str) -> Path:
    """A control group, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("600\n")
    (folder / "memory.stat").write_text("anon 400\ninactive_file 150\nactive_file 50\n")
    return folder


def test_the_nearest_group_with_a_limit_counts(tmp_path: Path) -> None:
    """One's own, or one above; the root has none, nor has a system without such groups."""
    own = group(tmp_path / "a" / "b", "max")
    above = group(tmp_path / "a", "1000")
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/legacy\n0::/a/b\n")
    assert limited_group(membership, tmp_path) == above
    group(own, "500")
    assert limited_group(membership, tmp_path) == own
    membership.write_text("0::/\n")
    assert limited_group(membership, tmp_path) is None
    assert limited_group(tmp_path / "none", tmp_path) is None


def test_what_can_be_dropped_at_any_time_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a group, files that were read once are left out; a group that is gone says nothing."""
    made = group(tmp_path, "1000")
    monkeypatch.setattr(memory, "limited_group", lambda: made)
    read = reader(2)
    found = read()
    assert found is not None
    assert (found.used, found.limit) == (450.0, 1000.0)
    (made / "memory.max").unlink()
    assert read() is None


def test_without_a_limit_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what all workers have of it, if each has as much as this one."""
    monkeypatch.setattr(memory, "limited_group", lambda: None)
    found = reader(3)()
    assert found is not None
    assert found.used == pytest.approx(3 * found.own)
    assert found.limit == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
