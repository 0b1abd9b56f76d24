"""What became of the requests about one version, counted. Knows nothing of what was asked."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Requests and rows that were computed, requests that failed, and the seconds that they took; `last` is a date.

    Requests whose answer was `found`, without computing it for them, are counted apart.
    """

    answers: int = 0
    rows: int = 0
    found: int = 0
    failures: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    failed_seconds: float = 0.0
    found_seconds: float = 0.0
    last: float = 0.0

    def answered(self, rows: int, queue: float, compute: float) -> None:
        """Counts an answer that was computed."""
        self.answers += 1
        self.rows += rows
        self.queue_seconds += queue
        self.compute_seconds += compute
        self.last = time.time()

    def known(self, seconds: float) -> None:
        """Counts an answer that was not computed for this request."""
        self.found += 1
        self.found_seconds += seconds
        self.last = time.time()

    def failed(self, seconds: float) -> None:
        """Counts a request that was valid, but refused, given up or gone wrong."""
        self.failures += 1
        self.failed_seconds += seconds
        self.last = time.time()
