"""Answers in Redis, which several machines share. Slow or gone it is left alone for a while: nobody waits for it long.

A value is a digest of key and answer, the length of the answer's JSON (−1: all of it), and the answer. Whatever else is
found under a key is taken for nothing. Needs the extra `redis`. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import struct
import time
from urllib.parse import urlsplit

from service.caching import build
from service.caching.memory import Written
from service.turns import Clock

logger = logging.getLogger(__name__)

# What takes less to compute is not looked for: asking takes a few tenths of a millisecond, one on the event loop.
WORTH_SECONDS = 0.001
# For a whole exchange with Redis, a new connection included.
PATIENCE_SECONDS = 0.1
# After a failure.
REST_SECONDS = 5.0
LIFE_SECONDS = 24 * 3600
LARGEST_BYTES = 1 << 20
# Who comes while so many ask already has computed sooner.
MOST_AT_ONCE = 32
_HEAD = struct.Struct("<16sq")


class Shared:
    """One Redis server, by its URL. Lives on the event loop.

    `failures` are exchanges that came to nothing.
    """

    def __init__(self, url: str, clock: Clock = time.monotonic) -> None:
        # Nothing of it is imported by those who have no Redis.
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.maint_notifications import MaintNotificationsConfig

        self.failures = 0
        self._clock = clock
        parts = urlsplit(url)
        # Never the whole URL: it may have a password.
        self._address = parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]
        self._prefix = f"penumbra:{build.name()}:".encode()
        self._rests_until = -1.0
        self._down = False
        self._asking = 0
        self._putting: set[asyncio.Task[None]] = set()
        self._redis = Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),  # whoever asks again has computed long since
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )

    async def get(self, key: bytes, seconds: float) -> Written | None:
        """The answer that somebody has put under this key; None also where that can't be known.

        What takes only so many `seconds` to compute is not looked for, unless these are many.
        """
        if not self._is_worth(seconds):
            return None
        self._asking += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found: bytes | None = await self._redis.get(self._prefix + key)  # type: ignore[assignment]
        except Exception as failure:  # noqa: BLE001 - whatever is wrong with Redis, the answer can be computed
            self._failed(failure)
            return None
        finally:
            self._asking -= 1
        self._succeeded()
        return None if found is None else unpacked(key, found)

    def put(self, key: bytes, written: Written, seconds: float) -> None:
        """Keeps an answer, unless it is too large, or would not be looked for; nobody waits for that."""
        if self._is_worth(seconds) and len(written.body) <= LARGEST_BYTES:
            task = asyncio.create_task(self._put(key, packed(key, written)))
            self._putting.add(task)
            task.add_done_callback(self._putting.discard)

    async def close(self) -> None:
        """Puts what is to be put, and hangs up."""
        await asyncio.gather(*self._putting)
        await self._redis.aclose()

    def _is_worth(self, seconds: float) -> bool:
        """Whether to ask Redis about what takes so long to compute."""
        return seconds >= WORTH_SECONDS and self._asking < MOST_AT_ONCE and self._clock() >= self._rests_until

    async def _put(self, key: bytes, value: bytes) -> None:
        self._asking += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._redis.set(self._prefix + key, value, ex=LIFE_SECONDS)
        except Exception as failure:  # noqa: BLE001 - the answer is on its way already
            self._failed(failure)
        else:
            self._succeeded()
        finally:
            self._asking -= 1

    def _failed(self, failure: Exception) -> None:
        self.failures += 1
        self._rests_until = self._clock() + REST_SECONDS
        if not self._down:
            self._down = True
            why = str(failure) or type(failure).__name__
            logger.warning("answers are not shared, since Redis at %s does not answer: %s", self._address, why)

    def _succeeded(self) -> None:
        if self._down:
            self._down = False
            logger.info("answers are shared again: Redis at %s answers", self._address)


def packed(key: bytes, written: Written) -> bytes:
    """An answer as Redis has it."""
    text = -1 if written.text is None else written.text
    return _HEAD.pack(_digest(key, text, written.body), text) + written.body


def unpacked(key: bytes, value: bytes) -> Written | None:
    """The answer in such a value; None where it is damaged, or another's."""
    if len(value) < _HEAD.size:
        return None
    digest, text = _HEAD.unpack_from(value)
    body = value[_HEAD.size :]
    if digest != _digest(key, text, body):
        return None
    return Written(body, None if text < 0 else text)


def _digest(key: bytes, text: int, body: bytes) -> bytes:
    hasher = hashlib.sha256(b"%b %d " % (key, text))
    hasher.update(body)
    return hasher.digest()[:16]
