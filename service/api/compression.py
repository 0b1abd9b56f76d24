"""Compressed bodies → bytes, never more of them than was said. Knows nothing of what they mean."""

from __future__ import annotations

import zlib

from service.errors import BodyTooLarge, MalformedRequest, UnsupportedMedia

# Content-Encoding → zlib's name for it; "deflate" is zlib's own format (RFC 9110).
_FORMATS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


def inflated(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """What was compressed. Raises UnsupportedMedia, BodyTooLarge (with no more than that held), MalformedRequest."""
    if encoding not in _FORMATS:
        raise UnsupportedMedia("the body may be compressed with gzip or deflate alone")
    inflater = zlib.decompressobj(_FORMATS[encoding])
    try:
        found = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise MalformedRequest("the body is not compressed as its Content-Encoding says") from None
    if len(found) > max_bytes:
        raise BodyTooLarge(f"the body has more than {max_bytes} bytes once it is inflated")
    if not inflater.eof or inflater.unused_data:
        raise MalformedRequest("the compressed body is cut off, or does not end where it says")
    return found
