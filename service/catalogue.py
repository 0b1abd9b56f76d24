"""The versions that this process serves, and how they come and go while it does.

What is to be served is agreed with the other processes (`agreement`); here it is loaded, verified, and put in the place
of what was served before, between two requests. Requests that have begun keep the version they began with. Knows
nothing of requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from anyio import to_thread

from models.repository import Repository
from service.agreement import Agreed, Agreement, Alone, Stored
from service.engine.evaluate import use_one_thread
from service.errors import ModelNotReady, Unavailable, UnknownModel
from service.served import ServedModel, newest_ready

logger = logging.getLogger(__name__)

Versions = Mapping[str, ServedModel | None]
Load = Callable[[str, str], ServedModel | None]

# How often the others' wishes are looked for, and how long they are waited for.
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 120.0


class Entry(NamedTuple):
    """A version that is served or could be, and why if it isn't."""

    name: str
    version: str
    ready: bool
    reason: str


class _Served(NamedTuple):
    """What is served at a moment: replaced as a whole."""

    generation: int
    models: Mapping[str, Versions]
    defaults: Mapping[str, ServedModel | None]


class Catalogue:
    """Models by name, and their versions, oldest first; None for a version that failed verification.

    `load` makes a version ready to answer, or None where it does not pass. The event loop changes what is served;
    everything that takes long runs on another thread.
    """

    def __init__(self, repository: Repository, load: Load, agreement: Agreement | None = None) -> None:
        self._repository, self._load = repository, load
        self._agreement = agreement or Alone()
        self._served = _Served(0, {}, {})
        self._changing = asyncio.Lock()
        self._serve(self._loaded(self._agreement.join(partial(stored, repository))))

    @property
    def models(self) -> Mapping[str, Versions]:
        """Every model and its versions; a model that was unloaded has none."""
        return self._served.models

    def resolve(self, name: str, version: str | None = None) -> ServedModel:
        """The named version, by default the newest that is ready.

        Raises UnknownModel, naming those that exist, or ModelNotReady.
        """
        served = self._served
        if version is None and (default := served.defaults.get(name)) is not None:
            return default
        versions = served.models.get(name)
        if versions is None:
            known = [name for name, versions in served.models.items() if versions]
            raise UnknownModel("there is no model of that name", known)
        if not versions:
            raise UnknownModel(f"{name} was unloaded: it can be loaded again")
        if version is not None and version not in versions:
            raise UnknownModel(f"{name} has no such version; there are: {', '.join(versions)}")
        model = versions[version] if version is not None else None
        if model is None:
            raise ModelNotReady("this version did not pass verification and is not served; see the service's log")
        return model

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
        versions = await to_thread.run_sync(self._repository.versions, name)
        if not versions:
            raise UnknownModel("the store has no model of that name")
        await self._agree({name: versions})
        failed = [version for version in versions if self.models.get(name, {}).get(version) is None]
        if failed:
            raise ModelNotReady(f"not served, see the service's log: {name}/{f', {name}/'.join(failed)}")

    async def unload(self, name: str) -> None:
        """Serves no version of this model any more, in any process. Raises UnknownModel."""
        if name not in self.models:
            raise UnknownModel("there is no model of that name")
        await self._agree({name: ()})

    async def index(self) -> list[Entry]:
        """Every version in the store and in service, sorted by name, oldest first."""
        found = await to_thread.run_sync(stored, self._repository)
        entries = []
        for name in sorted({*found, *self.models}):
            served, listed = self.models.get(name, {}), found.get(name, ())
            for version in (*(version for version in served if version not in listed), *listed):
                ready = served.get(version) is not None
                reason = "" if ready else "did not pass verification" if version in served else "not loaded"
                entries.append(Entry(name, version, ready, reason))
        return entries

    async def follow(self) -> None:
        """Serves what the other processes have agreed on, until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if self._agreement.generation != self._served.generation:
                    await self._try_to_catch_up()
        finally:
            self._agreement.leave()

    async def _agree(self, models: Stored) -> None:
        agreed = await to_thread.run_sync(self._agreement.change, models)
        await self._catch_up()
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._agreement.all_reached(agreed.generation):
            if time.monotonic() > end:
                raise Unavailable("agreed, but not every worker process has followed yet")
            await asyncio.sleep(LOOK_SECONDS / 2)

    async def _try_to_catch_up(self) -> None:
        try:
            await self._catch_up()
        except Exception:
            logger.exception("what is to be served could not be loaded; still trying")

    async def _catch_up(self) -> None:
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
        models: dict[str, Versions] = {}
        for name, listed in agreed.models.items():
            known = self._served.models.get(name, {})
            asked_again = listed.since > self._served.generation
            models[name] = {
                version: known[version]
                if version in known and (known[version] or not asked_again)
                else self._load(name, version)
                for version in listed.versions
            }
        return _Served(agreed.generation, models, {name: newest_ready(found) for name, found in models.items()})

    def _serve(self, served: _Served) -> None:
        self._served = served
        self._agreement.reach(served.generation)


def stored(repository: Repository) -> Stored:
    """Every version that a store has now."""
    return {name: repository.versions(name) for name in repository.names()}
