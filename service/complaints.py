"""What is wrong with a setting, in words for whoever starts the service: a line for each, with flag and variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.settings import Settings

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_LONGEST_QUOTE = 40
# By what pydantic calls it. Values of these kinds are no secrets, and may be quoted; no others are.
_KINDS = {"int": "a whole number", "float": "a number", "finite": "a number", "bool": "true or false"}
_BOUNDS = ("greater_than", "less_than")


def complaints(error: ValidationError) -> list[str]:
    """A line for each setting that is wrong."""
    return [
        f"python -m service: error: --{name.replace('_', '-')} (or PENUMBRA_{name.upper()}): {_said(name, item)}"
        for item in error.errors(include_url=False)
        for name in [str(item["loc"][0])]
    ]


def _said(name: str, item: ErrorDetails) -> str:
    kind, value = item["type"], item["input"]
    if kind == "literal_error":
        return f"must be {_listed(Settings.model_fields[name].annotation)}, not {_quoted(value)}"
    if kind.startswith(_BOUNDS):
        return f"must be {_bounds(name)}, not {_quoted(value)}"
    if wanted := _KINDS.get(kind.partition("_")[0]):
        return f"must be {wanted}, not {_quoted(value)}"
    return item["msg"]


def _quoted(value: object) -> str:
    quoted = repr(value)
    return quoted if len(quoted) <= _LONGEST_QUOTE else f"{quoted[:_LONGEST_QUOTE]}…"


def _listed(literal: Any) -> str:
    *most, last = literal.__args__
    return f"{', '.join(most)} or {last}"


def _bounds(name: str) -> str:
    """From the declaration of the setting."""
    declared = Settings.model_fields[name].metadata
    found = {kind: getattr(bound, kind) for bound in declared for kind in ("ge", "gt", "le") if hasattr(bound, kind)}
    if "gt" in found:
        return f"more than {found['gt']}"
    return f"from {found['ge']} to {found['le']}" if "le" in found else f"at least {found['ge']}"
