"""What can be wrong with a table."""

from __future__ import annotations


class UnusableTable(Exception):
    """A table, or a part of it, that can't be learnt from. The message names column, row and value, and a way out.

    `what` is the message without the way out, for those who have another.
    """

    def __init__(self, what: str, way_out: str = "") -> None:
        super().__init__(f"{what}; {way_out}" if way_out else what)
        self.what = what


def listed(names: list[str], most: int = 8) -> str:
    """Names for a message, not more of them than can be read."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def shown(value: object, most: int = 40) -> str:
    """A value for a message, in quotes, on one line, not longer than can be read."""
    text = " ".join(str(value).split())
    return repr(text[:most] + "…" if len(text) > most else text)
