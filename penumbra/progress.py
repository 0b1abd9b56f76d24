"""A line that says how far it is: rows, rows per second, time left. Knows nothing of what the rows are for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TextIO

# What callers may ask for: a line on the terminal or none, or a function that is told rows that are done, and all.
Progress = bool | Callable[[int, int], None]
_WIDTH = 24
_EVERY = 0.1  # seconds between two drawings


class Bar:
    """Draws itself over its last drawing; nothing is drawn where nobody would see it: in a file or a pipe.

    `before` are rows that were done by somebody else, and don't count as speed.
    """

    def __init__(
        self,
        label: str = "",
        *,
        before: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = monotonic,
        visible: bool | None = None,
    ) -> None:
        self._label, self._before, self._clock = label, before, clock
        self._stream = sys.stderr if stream is None else stream
        self._visible = self._stream.isatty() if visible is None else visible
        self._began = clock()
        self._drawn = float("-inf")
        self._length = 0

    def __call__(self, done: int, total: int) -> None:
        """So many rows of so many are done; the last one ends the line."""
        now = self._clock()
        if not self._visible or (done < total and now - self._drawn < _EVERY):
            return
        self._drawn = now
        text = self._text(done, total, now - self._began)
        self._stream.write("\r" + text.ljust(self._length) + ("\n" if done >= total else ""))
        self._stream.flush()
        self._length = len(text)

    def _text(self, done: int, total: int, seconds: float) -> str:
        share = done / total if total else 1.0
        filled = int(share * _WIDTH)
        bar = "█" * filled + "░" * (_WIDTH - filled)
        speed = (done - self._before) / seconds if seconds > 0 else 0.0
        left = f"{clock_time((total - done) / speed)} left" if speed > 0 and done < total else clock_time(seconds)
        return f"{self._label}{bar} {share:4.0%}  {done:,} of {total:,} rows  {speed:,.0f} rows/s  {left}"


def clock_time(seconds: float) -> str:
    """Seconds as a clock shows them: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shown(progress: Progress, *, before: int = 0) -> Callable[[int, int], None]:
    """Who is to be told; `before` as in `Bar`."""
    if callable(progress):
        return progress
    return Bar(before=before) if progress else nowhere


def nowhere(_done: int, _total: int) -> None:
    """For those who don't want to know."""
