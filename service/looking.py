"""Looks again and again while the service runs: what goes wrong is logged when it changes, and ends nothing.

Every loop in the background is this one. Knows nothing of what is looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from service.errors import PenumbraError

Look = Callable[[], Awaitable[object] | None]

FIRST_PAUSE_SECONDS = 1.0

logger = logging.getLogger(__name__)


async def every(seconds: float, what: str, look: Look, *, longest: float = 0.0, at_once: bool = False) -> None:
    """Looks every so many seconds, at first after as many or `at_once`, until it is cancelled.

    `what` is what it does, in words for the log. After a failure it waits for a second, after further ones twice as
    long each time, but no longer than `longest`, and never less than `seconds`.
    """
    complaint, pause = "", 0.0
    if not at_once:
        await asyncio.sleep(seconds)
    while True:
        try:
            if (looking := look()) is not None:
                await looking
        except Exception as error:
            if (found := f"{type(error).__name__}: {error}") != complaint:
                # Of what the system or the world around us did, our stack says nothing.
                ours = not isinstance(error, (OSError, PenumbraError))
                said = str(error) or type(error).__name__
                logger.exception("%s failed: %s; still trying", what, said, exc_info=ours)
            complaint, pause = found, min(max(FIRST_PAUSE_SECONDS, 2 * pause), longest)
        else:
            if complaint:
                logger.info("%s works again", what)
            complaint, pause = "", 0.0
        await asyncio.sleep(max(seconds, pause))
