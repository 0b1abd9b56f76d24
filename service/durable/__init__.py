"""Jobs that outlive requests and processes: tables that are scored in chunks, each of which is computed once."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed() -> bool:
    """Whether there is what jobs need."""
    return find_spec("dbos") is not None
