"""How often a caller may ask: fixed windows, counted by `limits` in memory that all worker processes share.

Two workers that count at the same moment can lose one of the two: a rate is a fence, not a ledger, and a lock would
cost every request more. Knows nothing of who callers are.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
import time
from collections.abc import Callable
from functools import lru_cache

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

# A place: whose window it is, when that ends, how much was counted in it.
_PLACE = struct.Struct("=Qdq")
_PLACES = 1 << 14
_TRIES = 16


class SharedWindows(Storage):
    """Windows in memory that is inherited by forked processes: a table by hash, in which expired places are reused."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._memory = mmap.mmap(-1, _PLACE.size * _PLACES)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What can go wrong outside: nothing."""
        return MemoryError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Counts: how much there is in this window by now."""
        now = self._clock()
        at, tag, end, count = self._find(key)
        if end <= now:
            end, count = now + expiry, 0
        _PLACE.pack_into(self._memory, at, tag, end, count + amount)
        return count + amount

    def get(self, key: str) -> int:
        """How much there is."""
        now = self._clock()
        _, _, end, count = self._find(key)
        return count if end > now else 0

    def get_expiry(self, key: str) -> float:
        """When this window ends, as a Unix time."""
        return max(self._clock(), self._find(key)[2])

    def check(self) -> bool:
        """Memory is there."""
        return True

    def reset(self) -> int | None:
        """Forgets everything."""
        self._memory[:] = bytes(len(self._memory))
        return None

    def clear(self, key: str) -> None:
        """Forgets one window."""
        at, tag, _, _ = self._find(key)
        _PLACE.pack_into(self._memory, at, tag, 0.0, 0)

    def _find(self, key: str) -> tuple[int, int, float, int]:
        """The place of a window, or one for it: free, expired, or of all that are tried the one that ends first."""
        tag = _tag(key)
        best: tuple[float, int] | None = None
        for step in range(_TRIES):
            at = (tag + step) % _PLACES * _PLACE.size
            owner, end, count = _PLACE.unpack_from(self._memory, at)
            if owner == tag:
                return at, tag, end, count
            if best is None or end < best[0]:
                best = end, at
            if end == 0.0:
                break
        assert best is not None
        return best[1], tag, 0.0, 0


class Rates:
    """Rates of callers by name, such as 10/second or 500/minute."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._windows = SharedWindows(clock)
        self._limiter = FixedWindowRateLimiter(self._windows)

    def wait(self, name: str, rate: str) -> int:
        """Counts a request: 0 if it may pass, else the seconds until the next may."""
        item = _parsed(rate)
        if self._limiter.hit(item, name):
            return 0
        return max(1, math.ceil(self._windows.get_expiry(item.key_for(name)) - self._clock()))


@lru_cache(maxsize=1024)
def _parsed(rate: str) -> RateLimitItem:
    return parse(rate)


@lru_cache(maxsize=4096)
def _tag(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") or 1
