"""Answers → bytes: shortest round-trip floats, NaN and infinity as null. Knows nothing of what the fields mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
from anyio import to_thread

# An encoder call holds the interpreter: about 5 ms for this many numbers. Larger answers are encoded in slices on
# another thread, so that the event loop gets its turn in between.
_SLICE = 50_000


async def encode(fields: Mapping[str, Any]) -> bytes:
    """The JSON object of these fields, in their order; arrays are NumPy's."""
    if _numbers(fields) <= _SLICE:
        return _dumps(fields)
    return await to_thread.run_sync(lambda: b"".join(_pieces(fields)))


def _dumps(value: Any) -> bytes:
    # The encoder takes arrays that lie in one piece, and asks what to do with others.
    return orjson.dumps(value, default=np.ascontiguousarray, option=orjson.OPT_SERIALIZE_NUMPY)


def _numbers(fields: Mapping[str, Any]) -> int:
    """Numbers in the arrays of an object, of objects in it, and of those that are listed in it."""
    count = 0
    for value in fields.values():
        kind = type(value)
        if kind is np.ndarray:
            count += value.size
        elif kind is dict:
            count += _numbers(value)
        elif kind is list and value and type(value[0]) is dict:
            count += sum(map(_numbers, value))
    return count


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        before = b"{"
        for name, inner in value.items():
            yield before + orjson.dumps(name) + b":"
            yield from _pieces(inner)
            before = b","
        yield b"{}" if before == b"{" else b"}"
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        before = b"["
        for inner in value:
            yield before
            yield from _pieces(inner)
            before = b","
        yield b"]"
    elif isinstance(value, np.ndarray) and value.size > _SLICE:
        step = max(1, _SLICE * len(value) // value.size)
        before = b"["
        for start in range(0, len(value), step):
            yield before + _dumps(value[start : start + step])[1:-1]
            before = b","
        yield b"]"
    else:
        yield _dumps(value)
