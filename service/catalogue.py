"""The versions that this process serves, and how they come and go while it does.

What is to be served is agreed with the other processes (`agreement`); here it is loaded, verified, and put in the place
of what was served before, between two requests. Requests that have begun keep the version they began with. One of the
processes watches the store, and what it finds there is agreed on. Knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from anyio import to_thread

from models.repository import Kept, Repository, Unreachable, version_order
from service.agreement import Agreed, Agreement, Alone, Edit
from service.edits import as_stored, bring, load_anew, unload
from service.engine.evaluate import use_one_thread
from service.errors import ModelNotReady, Unavailable, UnknownModel
from service.looking import every
from service.offers import NOTHING, Load, Offer, Versions, make_offer
from service.served import ServedModel

logger = logging.getLogger(__name__)

# How often the others' wishes are looked for, and how long they are waited for.
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 120.0
# What can't be loaded takes seconds of a core each time it is tried.
LONGEST_PAUSE_SECONDS = 60.0


class Entry(NamedTuple):
    """A version that is served or could be, and why if it isn't."""

    name: str
    version: str
    ready: bool
    reason: str


class _Served(NamedTuple):
    """What is served at a moment: replaced as a whole."""

    generation: int
    offers: Mapping[str, Offer]
    models: Mapping[str, Versions]
    defaults: Mapping[str, ServedModel | None]


class Looks(NamedTuple):
    """How often this process has looked into the store: to the end, and in vain."""

    ok: int = 0
    failed: int = 0


class Catalogue:
    """Models by name, and their versions, oldest first; None for a version that failed verification.

    `load` makes a version ready to answer and raises RepositoryError where it does not pass. Of each model the newest
    `keep` versions that pass are served, and the pinned one; 0: all. The event loop changes what is served; everything
    that takes long runs on another thread.
    """

    def __init__(
        self, repository: Repository, load: Load, agreement: Agreement | None = None, *, keep: int = 0
    ) -> None:
        self._repository, self._load, self._keep = repository, load, keep
        self._agreement = agreement or Alone()
        self._served = _Served(0, {}, {}, {})
        self._changing = asyncio.Lock()
        self.looks = Looks()
        self._serve(self._loaded(self._agreement.join(as_stored(repository))))

    @property
    def models(self) -> Mapping[str, Versions]:
        """Every model and its versions; a model that was unloaded has none."""
        return self._served.models

    @property
    def offers(self) -> Mapping[str, Offer]:
        """The same, with everything that is known of them."""
        return self._served.offers

    def resolve(self, name: str, version: str | None = None) -> ServedModel:
        """The named version; by default the pinned one, or the newest that is ready.

        Raises UnknownModel, naming those that exist, or ModelNotReady.
        """
        served = self._served
        if version is None and (default := served.defaults.get(name)) is not None:
            return default
        versions = served.models.get(name)
        if versions is None:
            raise UnknownModel("there is no model of that name", self._answering())
        if not versions:
            raise UnknownModel(f"{name} was unloaded: it can be loaded again", self._answering())
        if version is not None and version not in versions:
            raise UnknownModel(f"{name} has no such version", tuple(versions), name)
        model = versions[version] if version is not None else None
        if model is None:
            raise ModelNotReady("this version did not pass verification and is not served; see the service's log")
        return model

    def _answering(self) -> list[str]:
        return [name for name, versions in self.models.items() if versions]

    def is_ready(self, name: str, version: str | None = None) -> bool:
        """Whether that version is served. Raises UnknownModel."""
        try:
            self.resolve(name, version)
        except ModelNotReady:
            return False
        return True

    async def load(self, name: str) -> None:
        """Serves what the store has of this model by now, in every process; what is served already stays.

        Raises UnknownModel where the store has none of it, ModelNotReady where a version did not pass verification.
        """
        stored = await self._look()
        kept = stored.get(name)
        if kept is None:
            raise UnknownModel("the store has no model of that name", sorted(stored))
        await self._agree(load_anew(name, kept))
        if failures := self.offers[name].failures if name in self.offers else {}:
            raise ModelNotReady(f"not served, see the service's log: {name}/{f', {name}/'.join(failures)}")

    async def unload(self, name: str) -> None:
        """Serves no version of this model any more, in any process. Raises UnknownModel."""
        if name not in self.models:
            raise UnknownModel("there is no model of that name", self._answering())
        await self._agree(unload(name))

    async def index(self) -> list[Entry]:
        """Every version in the store and in service, sorted by name, oldest first. Raises Unavailable."""
        found = await _found(self._repository.look)
        entries = []
        for name in sorted({*found, *self.offers}):
            offer = self.offers.get(name, NOTHING)
            for version in sorted(
                {*offer.versions, *(found[name].versions if name in found else ())}, key=version_order
            ):
                ready, failure = offer.versions.get(version) is not None, offer.failures.get(version)
                reason = f"did not pass verification: {failure.reason}" if failure else "" if ready else "not loaded"
                entries.append(Entry(name, version, ready, reason))
        return entries

    async def follow(self) -> None:
        """Serves what the processes have agreed on, until it is cancelled."""
        try:
            await every(LOOK_SECONDS, "loading what is to be served", self._catch_up, longest=LONGEST_PAUSE_SECONDS)
        finally:
            self._agreement.leave()

    async def watch(self, seconds: float) -> None:
        """Looks into the store every so many seconds, and has what is new there served, until it is cancelled.

        One process does so for all. A store that can't be read takes nothing out of service.
        """
        await every(seconds, "looking for new versions", self._bring)

    async def _bring(self) -> None:
        if self._agreement.lead():
            try:
                found = await self._look()
            except Unavailable as error:
                raise Unavailable(f"{error}; what is served stays") from error
            await to_thread.run_sync(self._agreement.change, bring(found))

    async def _look(self) -> Mapping[str, Kept]:
        """Everything in the store. Raises Unavailable."""
        try:
            found = await _found(partial(_refreshed, self._repository))
        except Unavailable:
            self.looks = Looks(self.looks.ok, self.looks.failed + 1)
            raise
        self.looks = Looks(self.looks.ok + 1, self.looks.failed)
        return found

    async def _agree(self, edit: Edit) -> None:
        agreed = await to_thread.run_sync(self._agreement.change, edit)
        await self._catch_up()
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._agreement.all_reached(agreed.generation):
            if time.monotonic() > end:
                raise Unavailable("agreed, but not every worker process has followed yet")
            await asyncio.sleep(LOOK_SECONDS / 2)

    async def _catch_up(self) -> None:
        if self._agreement.generation == self._served.generation:
            return
        async with self._changing:
            agreed = await to_thread.run_sync(self._agreement.current)
            if agreed.generation != self._served.generation:
                self._serve(await to_thread.run_sync(self._loaded_aside, agreed))

    def _loaded_aside(self, agreed: Agreed) -> _Served:
        """The same on a thread of its own, which is set up as those are that will evaluate."""
        use_one_thread()
        return self._loaded(agreed)

    def _loaded(self, agreed: Agreed) -> _Served:
        """What was agreed, with what is not served yet loaded, and what failed tried again where it was asked for."""
        before = self._served.offers
        offers = {
            name: make_offer(name, listed, before.get(name, NOTHING), self._load, self._keep)
            for name, listed in agreed.models.items()
        }
        return _Served(
            agreed.generation,
            offers,
            {name: offer.versions for name, offer in offers.items()},
            {name: offer.default for name, offer in offers.items()},
        )

    def _serve(self, served: _Served) -> None:
        if self._served.generation:
            for name, model in served.defaults.items():
                if model is not self._served.defaults.get(name):
                    version = model.manifest.version if model else "none"
                    logger.info("%s: the version that is served by default is now %s", name, version)
        self._served = served
        self._agreement.reach(served.generation)


async def _found(look: Callable[[], Mapping[str, Kept]]) -> Mapping[str, Kept]:
    """What is in the store. Raises Unavailable."""
    try:
        return await to_thread.run_sync(look)
    except Unreachable as error:
        raise Unavailable(f"the store can't be read: {error}") from error


def _refreshed(repository: Repository) -> Mapping[str, Kept]:
    repository.refresh()
    return repository.look()
