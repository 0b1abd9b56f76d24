"""Large samplings, divided among processes: ranges of samples are evaluated wherever there is room, and put together.

A range's outputs are those samples' part of the whole, to the bit (the prefix law), and a sampling is summarised once,
from all of them: nobody can tell from an answer who took part. A range that does not come back is evaluated here. Knows
nothing of how others are reached.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

import numpy as np
from typing_extensions import override

from models.features import Float32, Float64
from service.engine import cost
from service.engine.evaluation import Piece
from service.engine.query import Committee
from service.errors import Unavailable
from service.jobs import Job, Sampling
from service.served import ServedModel

logger = logging.getLogger(__name__)

# About what a range should take of one core: far more than it takes to ask somebody for it, and little enough for those
# who are quick to take over from those who are slow.
RANGE_SECONDS = 0.1
_MOST_RANGES = 64
# What is away for longer is evaluated here as well.
LATE_SECONDS = 30.0


class Range(NamedTuple):
    """What another process needs to know: a version, by everything that its bits depend on; rows; and some samples."""

    name: str
    version: str
    fingerprint: str
    rows: Float64
    committee: Committee
    method: Literal["dropout", "ensemble"]


class Others(Protocol):
    """Processes with the same models; `most` is how many ranges they may be asked for at a time."""

    most: int

    async def evaluate(self, asked: Range, patience: float) -> Float32:
        """The outputs [samples, rows, width] of a range. Raises whatever there is to raise."""


class Part(Job):
    """Some samples of a sampling, which leave their outputs [samples, rows, width] and no answer."""

    @classmethod
    def of(cls, job: Job, committee: Committee) -> Part:
        """The part of a job that these samples are."""
        assert job.sampling is not None, "a prediction has no samples. This is a bug."
        sampling = job.sampling._replace(committee=committee)
        nothing = np.empty((0, len(job.rows), job.model.network.outputs), np.float32)
        return cls(job.model, job.rows, job.networks, job.cuts, sampling, job.cache, earlier=nothing)

    @property
    @override
    def seconds(self) -> float:
        """About how long one core takes for it."""
        network, members = self.networks[0], len(self.networks)
        return cost.seconds(network, self.cuts[0], len(self.rows), self.samples, members=members, told=False)

    @override
    def stages(self, company: Sequence[Job], threads: int) -> Iterator[Sequence[Piece]]:
        """The evaluation's stages alone. Raises InvalidRows where a row is out of float32's reach."""
        asked = self.evaluated([self], threads)
        yield from asked.stages()
        self.outputs = asked.of(0)


Here = Callable[[Part], Awaitable[None]]


def ranges(job: Job) -> list[Committee]:
    """A sampling's samples in ranges that are worth asking others for; a single one where none is."""
    assert job.sampling is not None, "a prediction has no samples. This is a bug."
    whole = job.sampling.committee
    count = max(1, min(int(Part.of(job, whole).seconds / RANGE_SECONDS), _MOST_RANGES, whole.samples))
    ends = [whole.samples * number // count for number in range(count + 1)]
    return [
        whole._replace(samples=end - start, first_sample=whole.first_sample + start) for start, end in pairwise(ends)
    ]


def asked_of(model: ServedModel, sampling: Sampling, committee: Committee) -> Range:
    """A range as others are asked for it."""
    assert sampling.method != "moments", "moments have no samples. This is a bug."
    manifest = model.manifest
    return Range(manifest.name, manifest.version, model.fingerprint, sampling.rows, committee, sampling.method)


def sampling_of(asked: Range, model: ServedModel) -> Sampling:
    """A range as a sampling of this process' model. Raises Unavailable where its bits might be others."""
    if model.fingerprint != asked.fingerprint:
        raise Unavailable("another build, processor or version of the model was asked for")
    return Sampling(asked.rows, asked.committee, method=asked.method)


async def outputs_of(job: Job, cut: Sequence[Committee], others: Others, here: Here, patience: float) -> Float32:
    """The outputs [samples, rows, width] of all samples: ranges are taken by whoever is free, this process among them.

    Raises what `here` raises. Whatever happens to others costs time, never the answer.
    """
    assert job.sampling is not None, "a prediction has no samples. This is a bug."
    sampling, left = job.sampling, deque(enumerate(cut))
    found: dict[int, Float32] = {}

    async def elsewhere() -> None:
        while left:
            number, committee = left.popleft()
            try:
                async with asyncio.timeout(LATE_SECONDS):
                    found[number] = await others.evaluate(asked_of(job.model, sampling, committee), patience)
            except Exception as error:  # noqa: BLE001 - whatever it is, there is this process
                logger.warning("samples are evaluated here, as others do not: %s: %.200s", type(error).__name__, error)
                left.append((number, committee))
                return

    async def at_home() -> None:
        while left:
            number, committee = left.popleft()
            part = Part.of(job, committee)
            await here(part)
            assert part.outputs is not None, "a part left no outputs. This is a bug."
            found[number] = part.outputs

    # They begin at the first wait, when this process has taken its own first range.
    away = [asyncio.create_task(elsewhere()) for _ in range(min(others.most, len(cut) - 1))]
    try:
        await at_home()
        if away:
            await asyncio.wait(away)
        await at_home()
    finally:
        for task in away:
            task.cancel()
        await asyncio.gather(*away, return_exceptions=True)
    return np.concatenate([found[number] for number in range(len(cut))])
