"""Bytes → JSON values, strictly: UTF-8 only, no duplicate keys, no nesting bombs. Knows nothing of what they mean.

The fast parser keeps the last of two equal keys and takes only what RFC 8259 allows. So its answer is used where a
count shows that no key was lost, and what it refuses goes to the slow parser, which can say what is wrong.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from service.errors import InvalidRequest, MalformedRequest, PenumbraError

# Above this the slow parser would hold up everybody else.
_SLOWLY_AT_MOST = 1 << 18
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"[ \t\r\n]*(:?)')
_CONTAINERS = frozenset((dict, list))
_NOT_FINITE = ("NaN", "Infinity")
# Lists and objects of a document: so many, and one for so many bytes. The fast parser holds up everybody else while it
# makes them, and a row has far more bytes than its brackets.
_CONTAINERS_AT_MOST, _BYTES_A_CONTAINER = 1 << 17, 32
# Longer integers than any float can hold; int() of thousands of digits is slow and limited.
_LONGEST_INTEGER = 400


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that a JSON document is; raises what `parse` raises, and MalformedRequest for any other value."""
    value = parse(body)
    if not isinstance(value, dict):
        raise MalformedRequest("the body must be a JSON object")
    return value


def parse(body: bytes) -> Any:
    """The value of a JSON document.

    NaN, Infinity and numbers beyond float64 come out as non-finite floats, for the caller to refuse by name. Raises
    MalformedRequest for everything that is not JSON; in a large body non-finite numbers are an InvalidRequest at once.
    """
    if len(body) > _CONTAINERS_AT_MOST:
        containers = body.count(b"[") + body.count(b"{")
        if containers > _CONTAINERS_AT_MOST + len(body) // _BYTES_A_CONTAINER:
            raise MalformedRequest("the body has too many lists or objects for its size")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if len(body) > _SLOWLY_AT_MOST:
            raise _unreadable(error) from None
        return _parse_slowly(body)
    # Every key is followed by a colon: as many colons as keys kept means that no key was lost.
    if body.count(b":") != _keys(value) and _keys_written(body) != _all_keys(value):
        raise MalformedRequest("an object has the same key twice")
    return value


def _keys(value: Any) -> int:
    """Keys of an object, and of the objects that are its values or are listed in them; deeper ones need no count."""
    if type(value) is not dict:
        return 0
    count = len(value)
    for inner in value.values():
        if type(inner) is list and inner and type(inner[0]) is dict:
            count += sum(len(item) for item in inner if type(item) is dict)
        elif type(inner) is dict:
            count += len(inner)
    return count


def _keys_written(body: bytes) -> int:
    """Keys as they stand in a valid document: strings that a colon follows."""
    return sum(1 for string in _STRING.finditer(body) if string[1])


def _all_keys(value: Any) -> int:
    """Keys that were kept, at any depth: the fast parser goes deeper than Python can call."""
    count, inside = 0, [value]
    while inside:
        value = inside.pop()
        if type(value) is dict:
            count += len(value)
            value = list(value.values())
        if type(value) is list and not _CONTAINERS.isdisjoint(map(type, value)):
            inside += [one for one in value if type(one) in _CONTAINERS]
    return count


def _unreadable(error: orjson.JSONDecodeError) -> PenumbraError:
    """Why a large body can't be read, from what the fast parser says: looking further would take too long."""
    where = f"line {error.lineno}, column {error.colno}"
    if error.msg.startswith("depth"):
        return MalformedRequest("the body is nested too deeply")
    if error.msg.startswith("number is infinity") or error.doc.startswith(_NOT_FINITE, error.pos):
        return InvalidRequest([("body", f"has a number that is not finite ({where})")])
    return MalformedRequest(f"the body is not JSON: {error.msg} ({where})")


def _parse_slowly(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("the body is not UTF-8") from None
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=float, parse_int=_integer)
        json.dumps(value, ensure_ascii=False).encode()  # as it will have to be written somewhere
    except UnicodeEncodeError:
        raise MalformedRequest("a text has half of a surrogate pair, which UTF-8 can't hold") from None
    except RecursionError:
        raise MalformedRequest("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise MalformedRequest("the body is empty: send a JSON object") from None
        what = error.msg.partition(":")[0]  # some messages quote what follows
        where = f"line {error.lineno}, column {error.colno}"
        raise MalformedRequest(f"the body is not JSON: {what} ({where})") from None
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedRequest("an object has the same key twice")
    return found


def _integer(digits: str) -> int | float:
    if len(digits) <= _LONGEST_INTEGER:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf
