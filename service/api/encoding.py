"""Answers → bytes: shortest round-trip floats, NaN and infinity as null. Knows nothing of what the fields mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

# An encoder call holds the interpreter: about 5 ms for this many numbers. Larger answers are encoded in slices on
# another thread, so that the event loop gets its turn in between.
_SLICE = 50_000
_SLICE_BYTES = 1 << 18


async def encode(fields: Mapping[str, Any]) -> bytes:
    """The JSON object of these fields, in their order; arrays are NumPy's."""
    if _numbers(fields) <= _SLICE:
        return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
    return await to_thread.run_sync(lambda: b"".join(_pieces(fields)))


class SlicedResponse(Response):
    """A response that hands its body over in slices, at the pace of the connection, and lets others in between."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), _SLICE_BYTES):
            part = self.body[start : start + _SLICE_BYTES]
            more = start + _SLICE_BYTES < len(self.body)
            await send({"type": "http.response.body", "body": part, "more_body": more})


def _numbers(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.size
    return sum(map(_numbers, value.values())) if isinstance(value, Mapping) else 0


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        before = b"{"
        for name, inner in value.items():
            yield before + orjson.dumps(name) + b":"
            yield from _pieces(inner)
            before = b","
        yield b"{}" if before == b"{" else b"}"
    elif isinstance(value, np.ndarray) and value.size > _SLICE:
        step = max(1, _SLICE * len(value) // value.size)
        before = b"["
        for start in range(0, len(value), step):
            part = np.ascontiguousarray(value[start : start + step])
            yield before + orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
            before = b","
        yield b"]"
    else:
        yield orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
