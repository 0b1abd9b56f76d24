"""Where a store is: in a directory, or in an object store under a URL. Light enough for whoever only reads settings."""

from __future__ import annotations

from pathlib import Path

SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "file")
# Where object stores are mirrored.
DEFAULT_CACHE = Path("~/.cache/penumbra")


def is_url(where: str | Path) -> bool:
    """Whether this names an object store; anything else is a directory."""
    scheme, separator, rest = str(where).partition("://")
    return isinstance(where, str) and bool(separator and rest) and scheme in SCHEMES
