"""Kinds of settings: directories, stores, databases and hosts, and what is wrong with a value that is none.

What may have a password is told without quoting it. Knows no setting.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from models.location import SCHEMES, is_url

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]")
_KNOWN = ", ".join(f"{scheme}://" for scheme in SCHEMES)


def _directory_or_url(value: object) -> Path | str:
    """A directory that is there, or the URL of an object store."""
    if isinstance(value, str) and "://" in value:
        if not is_url(value):
            raise PydanticCustomError(
                "scheme", "there is no such kind of store; a URL begins with one of {known}", {"known": _KNOWN}
            )
        return value
    try:
        return _directory(value)
    except PydanticCustomError as error:
        scheme = str(value).partition(":")[0]
        if scheme in SCHEMES:
            raise PydanticCustomError("scheme", f"{error.message()}; a URL begins with {scheme}://") from None
        raise


def _directory(value: object) -> Path:
    """A directory that is there."""
    path = Path(str(value))
    if not path.is_dir():
        what = "{path} is not a directory" if path.exists() else "there is no directory {path}"
        raise PydanticCustomError("path_not_directory", what, {"path": str(path)})
    return path


def _redis_or_none(value: object) -> str:
    """The URL of a Redis server, or nothing."""
    url = str(value)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PydanticCustomError("url", "must be a URL") from None
    whole = parts.path if parts.scheme == "unix" else parts.hostname
    if url and not (parts.scheme in ("redis", "rediss", "unix") and whole and port != 0):
        raise PydanticCustomError("url", "must be redis://HOST:PORT/NUMBER, rediss://… for TLS, or unix:///PATH")
    return url


def _directory_or_none(value: object) -> Path | None:
    """A directory that is there, or nothing."""
    return None if value is None or value == "" else _directory(value)


def _names_of_hosts(value: object) -> str:
    """Hosts with commas between: what a Host header can say, without a port."""
    hosts = str(value)
    for host in filter(None, map(str.strip, hosts.split(","))):
        if not _HOST.fullmatch(host):
            raise PydanticCustomError(
                "host",
                "{host} is not a host: write a name (example.com), a family of names (*.example.com), an address, or "
                "local; no scheme, port or path",
                {"host": repr(host)},
            )
    return hosts


def _postgres_or_none(value: object) -> str:
    """The URL of a Postgres database, or nothing."""
    url = str(value)
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("postgresql", "postgres") and parts.hostname and parts.path.strip("/")
        _ = parts.port
    except ValueError:
        raise PydanticCustomError("url", "must be a URL") from None
    if url and not whole:
        raise PydanticCustomError("url", "must be postgresql://USER:PASSWORD@HOST:PORT/NAME")
    return url


Store = Annotated[Path | str, PlainValidator(_directory_or_url)]
OptionalDirectory = Annotated[Path | None, PlainValidator(_directory_or_none)]
RedisUrl = Annotated[str, PlainValidator(_redis_or_none)]
PostgresUrl = Annotated[str, PlainValidator(_postgres_or_none)]
Hosts = Annotated[str, PlainValidator(_names_of_hosts)]
