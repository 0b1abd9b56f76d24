"""A request's whole story in one screen: resolve → admit → evaluate → summarise.

Knows nothing of HTTP, and nothing of how requests share the machine: `jobs` and `batching` decide that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from models.features import Float64
from models.repository import Repository
from service.batching import Batcher, Timings
from service.engine.mask_cache import MaskCache
from service.errors import ModelNotReady, NotApplicable, UnknownModel
from service.jobs import Job, Prediction, Sampled, Sampling
from service.served import ServedModel, newest_ready

Gone = Callable[[], bool]
Load = Callable[[str, str], ServedModel | None]


class Inference:
    """The models that are served, and how to ask them.

    `load` makes a version ready to answer, or None where it does not pass verification;
    `gone` tells whether a caller has hung up, `patience` how many seconds it waits in line.
    """

    def __init__(
        self,
        repository: Repository,
        load: Load,
        batcher: Batcher,
        mask_cache: MaskCache | None = None,
    ) -> None:
        self._batcher, self._masks = batcher, mask_cache
        self._models: dict[str, dict[str, ServedModel | None]] = {
            name: {version: load(name, version) for version in repository.versions(name)} for name in repository.names()
        }
        self._defaults = {name: newest_ready(versions) for name, versions in self._models.items()}

    @property
    def models(self) -> Mapping[str, Mapping[str, ServedModel | None]]:
        """Every version in the store by name, oldest first; None for one that failed verification."""
        return self._models

    def resolve(self, name: str, version: str | None = None) -> ServedModel:
        """The named version, by default the newest that is ready.

        Raises UnknownModel, naming those that exist, or ModelNotReady.
        """
        if version is None and (default := self._defaults.get(name)) is not None:
            return default
        versions = self._models.get(name)
        if versions is None:
            raise UnknownModel(f"there is no model of that name; there are: {', '.join(self._models) or 'none'}")
        if version is not None and version not in versions:
            raise UnknownModel(f"{name} has no such version; there are: {', '.join(versions)}")
        model = versions[version] if version is not None else None
        if model is None:
            raise ModelNotReady("this version did not pass verification and is not served; see the service's log")
        return model

    async def predict(
        self, model: ServedModel, rows: Float64, patience: float, gone: Gone
    ) -> tuple[Prediction, Timings]:
        """Asks the full network about rows [rows, inputs] in raw units."""
        job = Job(model, rows, model.full)
        timings = await self._batcher.run(job, patience, gone)
        return job.answer(), timings

    async def sample(
        self, model: ServedModel, sampling: Sampling, patience: float, gone: Gone
    ) -> tuple[Sampled, Timings]:
        """Asks a committee.

        Raises NotApplicable where the model has no members or no active dropout, before anything is computed.
        """
        name, committee = model.manifest.name, sampling.committee
        if sampling.method == "ensemble":
            raise NotApplicable(f"{name} has no ensemble members: ask for method dropout")
        if sampling.aggregate == "weighted":
            raise NotApplicable(f"{name} has no ensemble members to weigh: ask for aggregate mean or vote")
        cut = model.network.cut(committee.p)
        if not cut.after:
            raise NotApplicable(f"{name} has no active dropout here, so every sample would be the same: ask predict")
        job = Job(model, sampling.rows, cut, sampling, self._masks)
        timings = await self._batcher.run(job, patience, gone)
        return job.answer(), timings
