"""Requests to the model repository: what may stand in their bodies, which may also be empty."""

from __future__ import annotations

from typing import Any

from service.api import strict_json
from service.api.oip.requests import check_names, read_object, read_truth


def index(body: bytes) -> bool:
    """Whether only versions that are served are to be listed. Raises MalformedRequest or InvalidRequest."""
    fields = _object(body)
    check_names("body", fields, ("ready",))
    return read_truth("ready", fields.get("ready", False))


def change(body: bytes) -> None:
    """An order to load or to unload: the store decides what a model is made of, so that no parameter can.

    Raises MalformedRequest, or InvalidRequest where files or a configuration are sent.
    """
    fields = _object(body)
    check_names("body", fields, ("parameters",))
    # Unloading says whether others that hang on the model go with it: here none do.
    check_names("parameters", read_object("parameters", fields.get("parameters")), ("unload_dependents",))


def _object(body: bytes) -> dict[str, Any]:
    return strict_json.parse_object(body) if body.strip() else {}
