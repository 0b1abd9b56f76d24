"""API keys: how they are made, and the lines that are kept of them. Knows nothing of files.

A key is 256 random bits, so that a single SHA-256 of it is as good as any slow hash: there is nothing to guess. What is
kept is that hash; the key itself is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from models.manifest import Name
from service.access.callers import Caller, Scope

_PREFIX = "pen_"
_BYTES = 32


class WrongKeys(ValueError):
    """Lines that can't be read; the text says which and why, and quotes no hash."""


def _known_rate(rate: str) -> str:
    if rate:
        from limits import parse as parse_rate  # takes a tenth of a second, and many have no rates

        try:
            parse_rate(rate)
        except ValueError:
            raise ValueError("must be like 10/second or 500/minute") from None
    return rate


class Key(BaseModel):
    """What is known of a key: one line of JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    models: tuple[Name, ...] | None = None
    rate: Annotated[str, AfterValidator(_known_rate)] = ""

    @property
    def caller(self) -> Caller:
        """Whoever has this key."""
        models = None if self.models is None else frozenset(self.models)
        return Caller(self.name, frozenset(self.scopes), models, self.rate)

    @property
    def line(self) -> str:
        """As it is kept."""
        return self.model_dump_json(exclude_defaults=True)


def new_secret() -> str:
    """A key that nobody has had before."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def hashed(secret: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(secret).digest()


def said(complaint: str) -> str:
    """A complaint of pydantic's in its own words alone."""
    return complaint.removeprefix("Value error, ")


def parse(text: str, where: str) -> list[Key]:
    """Keys from lines; empty ones and those that begin with # are skipped. Raises WrongKeys, which names `where`."""
    found: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = Key.model_validate(json.loads(line))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "the line"
            raise WrongKeys(f"{where}, line {number}: {field}: {said(first['msg'])}") from None
        except (ValueError, RecursionError):  # numbers of thousands of digits are no JSONDecodeError
            raise WrongKeys(f"{where}, line {number}: is not JSON") from None
        if key.name in found:
            raise WrongKeys(f"{where}, line {number}: there is another key of that name")
        found[key.name] = key
    return list(found.values())
