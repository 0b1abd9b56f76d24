"""How near the service is to the end of its memory, and what is done before the system ends a process for it.

Looked at once a second: a container's limit (control groups, version 2) and what counts against it or, where there is
none, the machine's memory and what the worker processes have of it. Elsewhere than on Linux memory is never short.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from service.looking import every

LOOK_SECONDS = 1.0
# A worker that has become so many times as large as it was at first is replaced after memory has been short for so many
# looks: with that the memory comes back, if anything brings it back.
GROWN, PATIENCE = 2.0, 30
_GROUPS = Path("/sys/fs/cgroup")

logger = logging.getLogger(__name__)


class Reading(NamedTuple):
    """Bytes: what is `used` of a `limit`, and what this process has of it."""

    used: float
    limit: float
    own: float


class MemoryGuard:
    """Whether memory is `short`: more than a `share` of it is used, though `relieve` has freed what it can.

    `worn` says that this process is to be replaced. A share of 0 stands for no limit.
    """

    def __init__(self, share: float, read: Callable[[], Reading | None], relieve: Callable[[], None]) -> None:
        self.short = self.worn = False
        self._share, self._read, self._relieve = share, read, relieve
        self._at_first: float | None = None
        self._looks = 0

    async def watch(self) -> None:
        """Looks once a second, until it is cancelled."""
        if self._share:
            await every(LOOK_SECONDS, "watching memory", self.look)

    def look(self) -> None:
        """Looks once; the first time, before anything is answered, how large this process is at first."""
        if not self._share:
            return
        reading = self._read()
        if reading is not None and self._over(reading):
            self._relieve()
            reading = self._read()
        if reading is None:
            return
        if self._at_first is None:
            self._at_first = reading.own
        before, self.short = self.short, self._over(reading)
        self._looks = self._looks + 1 if self.short else 0
        self.worn = self._looks >= PATIENCE and reading.own >= GROWN * self._at_first
        if self.short and not before:
            said = "memory is short, %.0f of %.0f MB are used: nothing large is taken for now"
            logger.warning(said, reading.used / 1e6, reading.limit / 1e6)
        elif before and not self.short:
            logger.warning("there is memory again, %.0f of %.0f MB are used", reading.used / 1e6, reading.limit / 1e6)

    def _over(self, reading: Reading) -> bool:
        return reading.used > self._share * reading.limit


def reader(workers: int) -> Callable[[], Reading | None]:
    """What reads how much is used, for one of so many worker processes."""
    group = limited_group()

    def read() -> Reading | None:
        if not sys.platform.startswith("linux"):
            return None
        own = resident_memory()
        if group is None:
            return Reading(own * workers, float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")), own)
        with suppress(OSError, ValueError):  # the group is gone, or its limit
            return Reading(_used(group), float((group / "memory.max").read_text()), own)
        return None

    return read


def limited_group(membership: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> Path | None:
    """The nearest control group of this process that has a limit on memory."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    name = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = groups / name
    while group.is_relative_to(groups):
        with suppress(OSError):
            if (group / "memory.max").read_text().strip() != "max":
                return group
        group = group.parent
    return None


def resident_memory() -> float:
    """Bytes of this process in memory; 0 where the system does not say."""
    if not sys.platform.startswith("linux"):
        return 0.0
    return float(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bound(room: int) -> None:
    """From now on this process may take so many bytes more, and no allocation beyond: Python's is a MemoryError."""
    if sys.platform.startswith("linux"):
        import resource  # which others lack

        status = Path("/proc/self/status").read_text()
        taken = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = taken + room if hard == resource.RLIM_INFINITY else min(taken + room, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def trim() -> None:
    """Gives back to the system what the allocator keeps for later."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _used(group: Path) -> float:
    """Without what was read from files and can be dropped at any time."""
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return float((group / "memory.current").read_text()) - float(stat.get("inactive_file", 0))
