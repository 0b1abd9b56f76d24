"""A request's whole story: resolve → known? → admit → evaluate, here or with others → summarise → write.

Knows nothing of HTTP, of how models come and go (`catalogue`), and of how requests share the machine: `jobs` and
`batching` decide that.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from models.features import Float32, Float64
from service import blocks, splitting
from service.analytic import Analytic
from service.batching import Batcher, Timings
from service.caching.answers import Answers, Told
from service.caching.memory import Written
from service.catalogue import Catalogue
from service.counts import Counts
from service.engine import cost
from service.engine.mask_cache import MaskCache
from service.engine.moments import NotCovered
from service.engine.query import Committee
from service.errors import NotApplicable
from service.jobs import Job, Prediction, Sampled, Sampling
from service.served import ServedModel
from service.splitting import Others, Part, Range

Gone = Callable[[], bool]
# From a Prediction or a Sampled to bytes.
Write = Callable[[Any], Awaitable[Written]]


class Inference:
    """The models that are served, and how to ask them.

    `gone` tells whether a caller has hung up, `patience` how many seconds it waits in line, `caller` which it is of
    those who take turns. `counts` are by the name and version of a model, since this process began. Where there are
    `others`, large samplings are divided among them.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        batcher: Batcher,
        mask_cache: MaskCache | None = None,
        answers: Answers | None = None,
        others: Others | None = None,
    ) -> None:
        self._batcher, self._masks, self._answers, self._others = batcher, mask_cache, answers, others
        self.catalogue = catalogue
        self.resolve = catalogue.resolve
        self.counts: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)

    def foresee(self, caller: str) -> None:
        """Raises Unavailable where a request of this caller would come to nothing, whatever it asks for."""
        self._batcher.foresee(caller)

    async def tell(
        self,
        model: ServedModel,
        asked: Float64 | Sampling,
        key: bytes | None,
        write: Write,
        patience: float,
        gone: Gone,
        caller: str = "",
    ) -> Told:
        """The written answer to a sampling, or a prediction for such rows.

        Under a `key`, which must name all that its bytes depend on, it is looked for before it is computed. Raises what
        `predict` and `sample` raise, and what `write` does.
        """
        computing = False

        async def compute(patience: float, gone: Gone) -> tuple[Written, Timings]:
            nonlocal computing
            computing = True
            answer: Prediction | Sampled
            if isinstance(asked, Sampling):
                answer, timings = await self.sample(model, asked, patience, gone, caller)
            else:
                answer, timings = await self.predict(model, asked, patience, gone, caller)
            return await write(answer), timings

        if key is None or self._answers is None:
            return Told(*(await compute(patience, gone)))
        dear = _is_dear(model, asked)
        # Most predictions are of rows that nobody has seen before: looking for one takes a tenth of computing it.
        if not (dear or isinstance(asked, Sampling)):
            return Told(*(await compute(patience, gone)))
        began = time.monotonic()
        try:
            told = await self._answers.get(
                key, patience, gone, compute, partial(self._seconds, model, asked), dear=dear
            )
        except BaseException:
            if not computing:
                self._counts(model).failed(time.monotonic() - began)
            raise
        if not computing:
            self._counts(model).known(time.monotonic() - began)
        return told

    def check(self, model: ServedModel, asked: Float64 | Sampling) -> None:
        """Raises NotApplicable where a model can't answer such a question. Computes nothing."""
        self._job(model, asked)

    async def predict(
        self, model: ServedModel, rows: Float64, patience: float, gone: Gone, caller: str = ""
    ) -> tuple[Prediction, Timings]:
        """Asks the full network about rows [rows, inputs] in raw units."""
        job = self._job(model, rows)
        timings = await self._run(job, patience, gone, caller)
        return job.answer(), timings

    async def sample(
        self, model: ServedModel, sampling: Sampling, patience: float, gone: Gone, caller: str = ""
    ) -> tuple[Sampled, Timings]:
        """Asks a committee: all at once or, where there is a target, block by block until it is reached.

        Raises NotApplicable where the model has no members or no active dropout, or layers that the method does not
        cover, before anything is computed.
        """
        job, target = self._job(model, sampling), sampling.target
        if target is None:
            if self._others is not None and sampling.method != "moments":
                cut = splitting.ranges(job)
                if len(cut) > 1:
                    return await self._divided(job, cut, self._others, patience, gone, caller)
            timings = await self._run(job, patience, gone, caller)
            return job.answer(), timings
        with self._counted(job) as spent:
            ends = (end for end in blocks.ends(job.samples) if end >= target.least)
            async for so_far in self._blocks(job, ends, patience, gone, caller):
                told, timings = so_far
                spent.append(timings)
            return told, _total(spent)

    async def outputs(self, asked: Range, patience: float) -> Float32:
        """The outputs [samples, rows, width] of a range of samples, for another process to summarise with its own.

        Raises UnknownModel, ModelNotReady or Unavailable where this process has not the very same model.
        """
        model = self.resolve(asked.name, asked.version)
        whole = self._job(model, splitting.sampling_of(asked, model))
        part = Part.of(whole, asked.committee)
        await self._run(part, patience, lambda: False, "")
        assert part.outputs is not None, "a part left no outputs. This is a bug."
        return part.outputs

    async def _divided(
        self, job: Job, cut: Sequence[Committee], others: Others, patience: float, gone: Gone, caller: str
    ) -> tuple[Sampled, Timings]:
        """The same answer from ranges of samples that several processes evaluate; summarised here, once."""
        began, first = time.monotonic(), list[Timings]()

        async def here(part: Part) -> None:
            # Who was taken once need not hurry any more.
            begun = bool(first)
            timings = await self._batcher.run(part, math.inf if begun else patience, gone, caller, begun=begun)
            first.append(timings)

        with self._counted(job) as spent:
            outputs = await splitting.outputs_of(job, cut, others, here, patience)
            whole = job.block(outputs, len(outputs))
            await self._batcher.run(whole, math.inf, gone, caller, begun=True)
            queue = first[0].queue
            spent.append(Timings(queue, time.monotonic() - began - queue))
            told: Sampled = whole.answer()
            return told, spent[0]

    async def stream(
        self, model: ServedModel, sampling: Sampling, patience: float, gone: Gone, caller: str = ""
    ) -> AsyncGenerator[tuple[Sampled, Timings], None]:
        """The same as it grows: after each block of samples what all so far say; the last is what `sample` gives.

        Between two blocks nothing is computed, and nothing waits. Raises what `sample` raises, at first or later.
        """
        if sampling.method == "moments":
            yield await self.sample(model, sampling, patience, gone, caller)
            return
        job = self._job(model, sampling)
        with self._counted(job) as spent:
            async for told, timings in self._blocks(job, blocks.ends(job.samples), patience, gone, caller):
                spent.append(timings)
                yield told, timings

    def _seconds(self, model: ServedModel, asked: Float64 | Sampling) -> float:
        """About how long one core takes for it."""
        return self._job(model, asked).seconds

    def _job(self, model: ServedModel, asked: Float64 | Sampling) -> Job:
        """What is asked as a job. Raises NotApplicable."""
        if isinstance(asked, np.ndarray):
            return Job(model, asked, model.members, model.full)
        return self._sampling(model, asked)

    def _sampling(self, model: ServedModel, sampling: Sampling) -> Job:
        name, ensemble = model.manifest.name, sampling.method == "ensemble"
        if ensemble and not model.manifest.members:
            raise NotApplicable(f"{name} has no ensemble members: ask for method dropout")
        if sampling.aggregate == "weighted" and not model.manifest.members:
            raise NotApplicable(f"{name} has no ensemble members to weigh: ask for aggregate mean or vote")
        p = sampling.committee.p
        networks = model.members if ensemble else model.members[:1]
        cuts = tuple(network.cut(p) for network in networks) if ensemble else (model.network.cut(p),)
        if not (ensemble or cuts[0].after):
            raise NotApplicable(f"{name} has no active dropout here, so every sample would be the same: ask predict")
        if sampling.method == "moments":
            try:
                return Analytic(model, sampling, model.moments(p))
            except NotCovered as layers:
                raise NotApplicable(
                    f"{name} has {layers}, for which moments are not worked out: ask for samples"
                ) from None
        return Job(model, sampling.rows, networks, cuts, sampling, self._masks)

    async def _run(self, job: Job, patience: float, gone: Gone, caller: str) -> Timings:
        """Evaluates a job, and counts it: `_counted` in short, for the many requests that are a single one."""
        counts = self._counts(job.model)
        began = time.monotonic()
        try:
            timings = await self._batcher.run(job, patience, gone, caller)
        except BaseException:
            counts.failed(time.monotonic() - began)
            raise
        counts.answered(len(job.rows), timings.queue, timings.compute)
        return timings

    async def _blocks(
        self, job: Job, ends: Iterable[int], patience: float, gone: Gone, caller: str
    ) -> AsyncGenerator[tuple[Sampled, Timings], None]:
        """A sampling up to each of these ends in turn, and what it took, until its target is reached."""
        assert job.sampling is not None, "a prediction has no blocks. This is a bug."
        target, earlier = job.sampling.target, None
        for end in ends:
            block = job.block(earlier, end)
            begun = earlier is not None
            # Who was taken once need not hurry any more, only wait for its turn.
            timings = await self._batcher.run(block, math.inf if begun else patience, gone, caller, begun=begun)
            told: Sampled = block.answer()
            if target is not None:
                told = told._replace(converged=end >= target.least and told.reaches(target))
            yield told, timings
            if told.converged:
                return
            earlier = block.outputs

    @contextmanager
    def _counted(self, job: Job) -> Iterator[list[Timings]]:
        """Counts a request when it ends; what its evaluations took is put into the list."""
        counts = self._counts(job.model)
        began, spent = time.monotonic(), list[Timings]()
        try:
            yield spent
        except BaseException:
            counts.failed(time.monotonic() - began)
            raise
        total = _total(spent)
        counts.answered(len(job.rows), total.queue, total.compute)

    def _counts(self, model: ServedModel) -> Counts:
        manifest = model.manifest
        return self.counts[manifest.name, manifest.version]


def _is_dear(model: ServedModel, asked: Float64 | Sampling) -> bool:
    """Whether computing it takes much longer than looking whether it has been computed."""
    if not isinstance(asked, Sampling):
        return cost.is_dear(model.network, len(asked) * len(model.members))
    return asked.method == "moments" or cost.is_dear(model.network, len(asked.rows) * asked.committee.samples)


def _total(spent: Sequence[Timings]) -> Timings:
    """Of blocks as of any work: what lies before the first piece is queueing, waits between blocks are not."""
    queue = spent[0].queue
    return Timings(queue, sum(map(sum, spent)) - queue)
