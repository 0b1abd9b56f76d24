"""Whoever asks, and what they may. Knows nothing of how they prove who they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a caller may do; none of these includes another."""

    READ = "read"  # see models, statistics and metrics
    INFER = "infer"  # predict and sample
    ADMIN = "admin"  # load and unload models


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody known by `name`; `models` None stands for all, an empty `rate` for any."""

    name: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    rate: str = ""

    def sees(self, model: str) -> bool:
        """Whether a model is there for this caller."""
        return self.models is None or model in self.models

    def may_look_at(self, model: str) -> bool:
        """Whether this caller may be told that a model, or a version of it, is there."""
        return Scope.READ in self.scopes and self.sees(model)


# Where nobody is asked for a key.
ANYONE = Caller("", frozenset(Scope))
