"""How many connections there may be, and how one ends without taking back what was said last. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

# Beyond the bound: to say no on, and for whoever checks health.
SPARE = 64
# Those whose handshake is not over, and which are in no room yet.
MOST_STARTING = 64
# What else a worker has open: weights, logs, pipes, stores.
_OTHER_FILES = 128
_LOG_SECONDS = 60.0
# Whoever still sends when the answer is there is heard out for so long, as it would lose the answer otherwise.
LINGER_SECONDS, LINGER_BYTES = 2.0, 1 << 25

logger = logging.getLogger(__name__)


class Guest(Protocol):
    """A connection."""

    def expel(self) -> None:
        """Closes it at once."""


class Room:
    """Room for `most` connections (0: any number), and a few spare ones.

    When there is no place for another, the oldest of the spare ones goes: silence keeps no place.
    """

    def __init__(self, most: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._count = 0
        self._spare: dict[Guest, None] = {}
        self._told = -_LOG_SECONDS

    @property
    def full(self) -> bool:
        """Whether there is no place for another."""
        return 0 < self._most <= self._count

    def enter(self, guest: Guest) -> None:
        """Another connection."""
        self._count += 1
        if not self._most or self._count <= self._most:
            return
        self._spare[guest] = None
        if self._clock() - self._told >= _LOG_SECONDS:
            self._told = self._clock()
            logger.warning("%d connections are open, which is as many as may be", self._most)
        if len(self._spare) > SPARE:
            oldest = next(iter(self._spare))
            del self._spare[oldest]
            oldest.expel()

    def leave(self, guest: Guest) -> None:
        """One that has ended."""
        self._count -= 1
        self._spare.pop(guest, None)

    def holds(self, guest: Guest) -> bool:
        """Whether a connection is within the bound, by now."""
        if guest in self._spare and self._count <= self._most:
            del self._spare[guest]
        return guest not in self._spare


class Gentle:
    """A transport that is not closed before the other side has been heard out, if it is `talking`.

    To close a socket on which something has arrived unread is to reset it, and whoever is reset may lose what it was
    told last. So the end is announced first, and what still comes is thrown away: not for long, and not for ever.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, talking: Callable[[], bool]
    ) -> None:
        self._transport, self._loop, self._talking = transport, loop, talking
        self.write, self.get_extra_info = transport.write, transport.get_extra_info
        self.lingering = False
        self._heard = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self.lingering or self._transport.is_closing()

    def close(self) -> None:
        """See asyncio.BaseTransport."""
        if self.lingering:
            return
        if self._transport.is_closing() or not self._talking():
            self._transport.close()
            return
        self.lingering = True
        self._loop.call_later(LINGER_SECONDS, self._transport.close)
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def hear(self, data: bytes) -> None:
        """What still comes."""
        self._heard += len(data)
        if self._heard > LINGER_BYTES:
            self._transport.close()


def room_for(most: int) -> int:
    """How many of so many connections (0: any number) the system has files for; raises the soft limit on them first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # not every system takes its own word for it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(1, soft - _OTHER_FILES - SPARE - MOST_STARTING)
    if soft == resource.RLIM_INFINITY or 0 < most <= possible:
        return most
    if most:
        logger.warning("%d connections at most, not %d: no more files may be open (ulimit -n)", possible, most)
    return possible
