"""As much of JSON Schema (2020-12) as the service's document uses; any other keyword is an error, never ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

ANNOTATIONS = {"title", "description", "default", "example", "examples"}
TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
# Keyword → whether a value of the type that the keyword is about complies.
LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("number", lambda value, limit: value >= limit),
    "maximum": ("number", lambda value, limit: value <= limit),
    "exclusiveMinimum": ("number", lambda value, limit: value > limit),
    "exclusiveMaximum": ("number", lambda value, limit: value < limit),
    "minItems": ("array", lambda value, limit: len(value) >= limit),
    "maxItems": ("array", lambda value, limit: len(value) <= limit),
    "pattern": ("string", lambda value, pattern: re.search(pattern, value) is not None),
    "required": ("object", lambda value, names: set(names) <= set(value)),
}


def complaints(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "$") -> Iterator[str]:
    """What in a parsed value does not comply with a schema of this document."""
    for keyword, rule in schema.items():
        match keyword:
            case "$ref":
                yield from complaints(value, resolve(rule, document), document, at)
            case "anyOf":
                if all(any(complaints(value, option, document, at)) for option in rule):
                    yield f"{at} is none of {len(rule)} options"
            case "items":
                for place, item in enumerate(value if isinstance(value, list) else []):
                    yield from complaints(item, rule, document, f"{at}[{place}]")
            case "properties":
                for name in rule.keys() & (value.keys() if isinstance(value, dict) else set()):
                    yield from complaints(value[name], rule[name], document, f"{at}.{name}")
            case "additionalProperties":
                yield from _about_others(value, schema, document, at)
            case _ if keyword not in ANNOTATIONS and not _complies(value, keyword, rule):
                yield f"{at} breaks {keyword} {rule}"


def _complies(value: Any, keyword: str, rule: Any) -> bool:
    """Whether a value keeps a rule that needs no look inside."""
    if keyword == "type":
        return TYPES[rule](value)
    if keyword in {"enum", "const"}:
        return value in rule if keyword == "enum" else bool(value == rule)
    if keyword not in LIMITS:
        raise NotImplementedError(f"this checker knows no {keyword}")
    kind, keeps = LIMITS[keyword]
    return not TYPES[kind](value) or keeps(value, rule)


def _about_others(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str) -> Iterator[str]:
    rule = schema["additionalProperties"]
    for name in value.keys() - schema.get("properties", {}).keys() if isinstance(value, dict) else ():
        if rule is False:
            yield f"{at} has an unknown {name}"
        elif rule is not True:
            yield from complaints(value[name], rule, document, f"{at}.{name}")


def resolve(reference: str, document: dict[str, Any]) -> dict[str, Any]:
    """What a reference within a document refers to; KeyError where that is nothing."""
    assert reference.startswith("#/")
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(node: Any) -> Iterator[str]:
    """Every reference anywhere in a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from references(inner)
