"""What is served of a model: which of its versions, chosen, loaded, or why not, and which one by default.

Knows nothing of when that changes (`catalogue`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from models.repository import RepositoryError
from service.agreement import Asked, Listed
from service.served import ServedModel, newest_ready

logger = logging.getLogger(__name__)

Versions = Mapping[str, ServedModel | None]
# Makes a version ready to answer; raises RepositoryError where it does not pass verification.
Load = Callable[[str, str], ServedModel]

_LONGEST_REASON = 250


class Failure(NamedTuple):
    """Why a version is not served, and what was asked for when that was found."""

    reason: str
    asked: Asked


class Offer(NamedTuple):
    """What is served of a model: its versions, oldest first, the default one, and what says which that is.

    Where a version is None, `failures` has it. `default` is None while no version is ready.
    """

    versions: Versions
    default: ServedModel | None
    pinned: str | None
    failures: Mapping[str, Failure]


NOTHING = Offer({}, None, None, {})


def make_offer(name: str, listed: Listed, before: Offer, load: Load, keep: int = 0) -> Offer:
    """What is to be served of a model from now on: `keep` versions that pass, the newest (0: all), and the pinned one.

    What was served `before` is served on as it is; what failed is tried again where it has been asked for anew.
    """
    versions: dict[str, ServedModel | None] = {}
    failures: dict[str, Failure] = {}
    ready = 0
    for version, asked in reversed(list(listed.versions.items())):
        if keep and ready >= keep and version != listed.pinned:
            continue
        found = _version(name, version, asked, before, load)
        if isinstance(found, Failure):
            versions[version], failures[version] = None, found
        else:
            versions[version] = found
            ready += 1
    versions, failures = dict(reversed(versions.items())), dict(reversed(failures.items()))
    pinned = versions.get(listed.pinned) if listed.pinned else None
    if listed.pinned and pinned is None and listed.pinned != before.pinned:
        logger.error("%s is pinned to version %s, which is not served: the newest is", name, listed.pinned)
    return Offer(versions, pinned or newest_ready(versions), listed.pinned, failures)


def _version(name: str, version: str, asked: Asked, before: Offer, load: Load) -> ServedModel | Failure:
    """What is served already, what is known to have failed, or what comes of loading it now."""
    if (served := before.versions.get(version)) is not None:
        return served
    if (failure := before.failures.get(version)) is not None and failure.asked == asked:
        return failure
    try:
        return load(name, version)
    except RepositoryError as error:
        logger.error("not served: %s", error)  # noqa: TRY400 - the operator needs the finding, not our stack
        return Failure(str(error).removeprefix(f"{name}/{version}: ")[:_LONGEST_REASON], asked)
    except MemoryError:  # there may be room again
        raise
    except Exception:
        # Whatever a file can bring about, the other versions are served.
        logger.exception("not served: %s/%s: an internal error; please report it", name, version)
        return Failure("an internal error; see the service's log", asked)
