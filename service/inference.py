"""A request's whole story in one screen: resolve → admit → evaluate → summarise.

Knows nothing of HTTP, of how models come and go (`catalogue`), and of how requests share the machine: `jobs` and
`batching` decide that.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from models.features import Float64
from service.batching import Batcher, Timings
from service.catalogue import Catalogue
from service.counts import Counts
from service.engine.mask_cache import MaskCache
from service.errors import NotApplicable
from service.jobs import Job, Prediction, Sampled, Sampling
from service.served import ServedModel

Gone = Callable[[], bool]


class Inference:
    """The models that are served, and how to ask them.

    `gone` tells whether a caller has hung up, `patience` how many seconds it waits in line. `counts` are by the name
    and version of a model, since this process began.
    """

    def __init__(self, catalogue: Catalogue, batcher: Batcher, mask_cache: MaskCache | None = None) -> None:
        self._batcher, self._masks = batcher, mask_cache
        self.catalogue = catalogue
        self.resolve = catalogue.resolve
        self.counts: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)

    async def predict(
        self, model: ServedModel, rows: Float64, patience: float, gone: Gone
    ) -> tuple[Prediction, Timings]:
        """Asks the full network about rows [rows, inputs] in raw units."""
        return await self._run(Job(model, rows, model.full), patience, gone)

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
        return await self._run(Job(model, sampling.rows, cut, sampling, self._masks), patience, gone)

    async def _run(self, job: Job, patience: float, gone: Gone) -> tuple[Any, Timings]:
        manifest = job.model.manifest
        counts = self.counts[manifest.name, manifest.version]
        began = time.monotonic()
        try:
            timings = await self._batcher.run(job, patience, gone)
        except BaseException:
            counts.failed(time.monotonic() - began)
            raise
        counts.answered(len(job.rows), timings.queue, timings.compute)
        return job.answer(), timings
