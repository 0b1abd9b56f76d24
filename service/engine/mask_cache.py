"""The units that committees keep, remembered for seeds that are asked for again; bounded in bytes.

What is found here is what would be drawn: the cache changes no answer. Shared by all threads. Knows nothing of how
masks are drawn.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt

KeptUnits = npt.NDArray[np.bool_]

# Keys that are remembered without their masks, to know a second request from a first.
_SEEN = 4096


class MaskCache:
    """Least recently used masks go first. Masks are stored the second time they are drawn: most seeds never return.

    `hits`, `misses` and the `bytes` held are there for telemetry.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = self.misses = self.bytes = 0
        self._max_bytes = max_bytes
        self._masks: OrderedDict[Hashable, KeptUnits] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, draw: Callable[[], KeptUnits]) -> KeptUnits:
        """The masks of this key, drawn if they aren't here; never to be written to."""
        with self._lock:
            found = self._masks.get(key)
            if found is not None:
                self.hits += 1
                self._masks.move_to_end(key)
                return found
            self.misses += 1
            returned = key in self._seen
            if not returned:
                self._seen[key] = None
                if len(self._seen) > _SEEN:
                    self._seen.popitem(last=False)
        drawn = draw()
        if returned and drawn.nbytes <= self._max_bytes:
            self._store(key, drawn)
        return drawn

    def clear(self) -> None:
        """Forgets all masks."""
        with self._lock:
            self._masks.clear()
            self.bytes = 0

    def _store(self, key: Hashable, drawn: KeptUnits) -> None:
        with self._lock:
            self._seen.pop(key, None)
            if key not in self._masks:
                self._masks[key] = drawn
                self.bytes += drawn.nbytes
            while self.bytes > self._max_bytes:
                self.bytes -= self._masks.popitem(last=False)[1].nbytes
