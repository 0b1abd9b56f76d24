"""What is new in an object store is pulled by a process of its own, before workers are forked.

What reads object stores starts threads, which must not be there by then. Knows nothing of what is served.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import sys
import time
from collections.abc import Callable

from models.location import is_url
from models.mirror import open_store
from models.repository import RepositoryError
from service.settings import Settings

_LOOK_SECONDS = 0.1
# How long a process may take to end that has said what it had to say.
_END_SECONDS = 5.0

logger = logging.getLogger(__name__)


def refresh_first(settings: Settings) -> None:
    """Looks into the store before anything is served; where it can't be read and was never, that ends it all."""
    complaint = refreshed_aside(settings)
    try:
        found = open_store(settings.store, settings.cache).look()
    except RepositoryError as error:
        found, complaint = {}, str(error)
    if complaint and not found:
        sys.exit(f"python -m service: error: --store (or PENUMBRA_STORE): {complaint}")
    if complaint:
        logger.error("%s; what was mirrored before is served", complaint)
    if not found:
        logger.warning("the store %s has no models yet", settings.store)


def refreshed_aside(settings: Settings, stopping: Callable[[], bool] = lambda: False, seconds: float = math.inf) -> str:
    """Has a process of its own pull what is new, if anything is to be pulled: what was wrong, nothing if all is well.

    It is given so many seconds, and ended where all is to stop.
    """
    if not is_url(settings.store):
        return ""
    context = multiprocessing.get_context("fork")
    listening, telling = context.Pipe(duplex=False)

    def refresh() -> None:
        try:
            open_store(settings.store, settings.cache).refresh()
        except RepositoryError as error:
            telling.send(str(error))

    process = context.Process(target=refresh, daemon=True)  # it ends with this one
    process.start()
    telling.close()
    end = time.monotonic() + seconds
    try:
        while not listening.poll(_LOOK_SECONDS):
            if stopping() or time.monotonic() > end:
                process.kill()
                return "it took too long" if not stopping() else "the service stops"
        complaint: str = listening.recv()
    except EOFError:
        complaint = ""
    finally:
        listening.close()
    process.join(_END_SECONDS)
    failed = process.exitcode != 0
    process.kill()
    return complaint or ("the store could not be read, for an internal error" if failed else "")
