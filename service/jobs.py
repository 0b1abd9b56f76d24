"""A request as work for the batcher: which queries can share an evaluation, and what becomes of their outputs.

Queries of one network are evaluated together; those of one size and with the same options are summarised together too.
Neither changes a bit of what each would get alone. Knows nothing of queues or HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from models.features import Float32, Float64, InvalidRows
from service.blocks import Target
from service.engine import cost, uncertainty
from service.engine.ensemble import Ensemble
from service.engine.evaluate import evaluation
from service.engine.evaluation import Evaluation, Piece
from service.engine.mask_cache import MaskCache
from service.engine.plan import Cut, Network
from service.engine.query import Committee, Query
from service.engine.reductions import mean_over_samples
from service.engine.uncertainty import ClassificationSummary, RegressionSummary
from service.engine.workspace import Workspace
from service.served import ServedModel

# Numbers that one piece of summarising reads: some ten milliseconds' work.
SUMMARY_NUMBERS = 1 << 17
# Pieces of one job may fail it on several threads at once.
_failing = threading.Lock()


class Sampling(NamedTuple):
    """A sampling request, validated: rows [rows, inputs] in raw units, and whom to ask about what.

    `seeded` says whether the answer can be asked for again: whether the caller chose the seed, or none is needed. With
    a `target` the committee's samples are the most that may be taken. Of method moments the committee is a name alone:
    nothing is sampled.
    """

    rows: Float64
    committee: Committee
    seeded: bool = True
    method: Literal["dropout", "ensemble", "moments"] = "dropout"
    aggregate: Literal["mean", "vote", "weighted"] = "mean"
    level: float = 0.9
    quantiles: tuple[float, ...] = ()
    return_draws: bool = False
    target: Target | None = None


class Prediction(NamedTuple):
    """The full network's outputs in raw units; for classifications `mean` are probabilities. All [rows, outputs].

    An ensemble's are its members' mean, and the root of their mean variance.
    """

    mean: Float64
    aleatoric_std: Float64 | None


class Sampled(NamedTuple):
    """What a committee of so many samples says; `draws` is [samples, rows, outputs] where it was asked for.

    `converged` says whether a target was reached; None where there was none.
    """

    summary: RegressionSummary | ClassificationSummary
    draws: Float64 | None
    samples: int
    converged: bool | None = None

    def reaches(self, target: Target) -> bool:
        """Whether every mean's standard error is known, and at most the target's."""
        return self.summary.stderr is not None and bool((self.summary.stderr <= target.stderr).all())


Answer: TypeAlias = Prediction | Sampled


@dataclass(slots=True, eq=False)
class Job:
    """Rows [rows, inputs] in raw units for one model; without a sampling it is a prediction. See `batching.Job`.

    `networks` are asked, each cut as in `cuts`: one, or members that take turns at the samples. A block is a job that
    continues another: `earlier` are the outputs [samples, rows, width] of the samples before its own, and it answers
    for all of them, which it leaves in `outputs`; one that ends where they do only says what they say. `overflow` is
    the row for which it failed, where the network overflows.
    """

    model: ServedModel
    rows: Float64
    networks: tuple[Network, ...]
    cuts: tuple[Cut, ...]
    sampling: Sampling | None = None
    cache: MaskCache | None = None
    failure: Exception | None = None
    overflow: int | None = None
    # Parts of the answer by their first row: a large job is summarised in several pieces.
    parts: dict[int, Answer] = field(default_factory=dict)
    earlier: Float32 | None = None
    outputs: Float32 | None = None

    def block(self, earlier: Float32 | None, end: int) -> Job:
        """The part of a sampling from the end of `earlier` (None: the beginning) up to so many samples."""
        assert self.sampling is not None, "a prediction has no blocks. This is a bug."
        if earlier is None:
            earlier = np.empty((0, len(self.rows), self.model.network.outputs), np.float32)
        committee, done = self.sampling.committee, len(earlier)
        own = committee._replace(samples=end - done, first_sample=committee.first_sample + done)
        return replace(self, sampling=self.sampling._replace(committee=own), parts={}, earlier=earlier)

    def overflows(self, row: int) -> None:
        """Fails it for this row, unless it has for one before: pieces may end in any order."""
        with _failing:
            if self.overflow is None or row < self.overflow:
                self.overflow = row
                message = "is so far from the training data that the network overflows"
                self.failure = InvalidRows([(f"inputs[{row}]", message)])

    @property
    def committee(self) -> Committee | None:
        """Whom to ask; None: the full network."""
        return self.sampling.committee if self.sampling else None

    @property
    def samples(self) -> int:
        """Samples that are evaluated; a full network is a single one."""
        return self.sampling.committee.samples if self.sampling else len(self.networks)

    @property
    def samples_before(self) -> int:
        """Samples that were evaluated earlier, and are summarised with these."""
        return 0 if self.earlier is None else len(self.earlier)

    @property
    def seconds(self) -> float:
        """About how long one core takes for it."""
        network, members = self.networks[0], len(self.networks)
        return cost.seconds(
            network, self.cuts[0], len(self.rows), self.samples, earlier=self.samples_before, members=members
        )

    @property
    def company(self) -> Hashable:
        """One company for all predictions of a network, and one for its committees with the same dropout.

        Blocks go alone.
        """
        if self.earlier is not None:
            return None
        asked = id(self.networks[0]), len(self.networks)
        committee = self.committee
        return (*asked, "full") if committee is None else (*asked, committee.p)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Jobs of a company for which this is equal are summarised together."""
        asked = self.sampling
        if asked is None:
            return self.samples, len(self.rows)
        samples = self.samples_before + asked.committee.samples
        turn = self._first if asked.aggregate == "weighted" else 0
        return samples, len(self.rows), asked.aggregate, asked.level, asked.quantiles, asked.return_draws, turn

    @property
    def _first(self) -> int:
        """Whose turn the first sample is: where samples have weights, it makes a difference."""
        assert self.sampling is not None, "a prediction has no first sample. This is a bug."
        return (self.sampling.committee.first_sample - self.samples_before) % len(self.networks)

    def weights(self, samples: int) -> Float64 | None:
        """Each sample's part in a weighted vote; None where all are equal."""
        if self.sampling is None or self.sampling.aggregate != "weighted":
            return None
        members = np.array([member.weight for member in self.model.manifest.members])
        return members[(self._first + np.arange(samples)) % len(members)]

    def stages(self, company: Sequence[Job], threads: int) -> Iterator[Sequence[Piece]]:
        """The evaluation's stages, then one that leaves answers or failures with the jobs.

        Raises InvalidRows where a row is out of float32's reach: in company, each job is then asked to go alone.
        """
        jobs = sorted(company, key=_kind) if len(company) > 1 else company
        if self.earlier is not None and not self.samples:
            self.outputs = self.earlier
            yield _conclusions(jobs, self.outputs.reshape(-1, self.outputs.shape[-1]))
            return
        asked = self.evaluated(jobs, threads)
        yield from asked.stages()
        outputs = asked.outputs
        if self.earlier is not None:
            self.outputs = np.concatenate([self.earlier, asked.of(0)])
            outputs = self.outputs.reshape(-1, outputs.shape[-1])
        yield _conclusions(jobs, outputs)

    def evaluated(self, jobs: Sequence[Job], threads: int) -> Evaluation | Ensemble:
        """The evaluation of jobs, this one among them, in their order. Raises InvalidRows."""
        rows = self.model.standard(self.rows if len(jobs) == 1 else np.concatenate([job.rows for job in jobs]))
        ends = accumulate(len(job.rows) for job in jobs)
        queries = [Query(rows[end - len(job.rows) : end], job.committee) for job, end in zip(jobs, ends, strict=True)]
        if len(self.networks) == 1:
            return evaluation(self.networks[0], queries, threads, cut=self.cuts[0], cache=self.cache)
        return Ensemble(self.networks, queries, threads, self.cuts, self.cache)

    def answer(self) -> Any:
        """The answer, once all stages are done."""
        parts = [self.parts[start] for start in sorted(self.parts)]
        return parts[0] if len(parts) == 1 else joined(parts)


_kind = attrgetter("kind")


def _conclusions(jobs: Sequence[Job], outputs: Float32) -> list[Piece]:
    """Pieces that turn outputs [pairs of all jobs, width] into answers, for jobs of a kind together."""
    pieces: list[Piece] = []
    pair = 0
    for (samples, rows, *_), alike in groupby(jobs, key=_kind):
        group = list(alike)
        pairs = len(group) * samples * rows
        block = outputs[pair : pair + pairs].reshape(len(group), samples, rows, -1)
        pair += pairs
        of_all = block.transpose(1, 0, 2, 3).reshape(samples, len(group) * rows, -1)
        step = max(1, SUMMARY_NUMBERS // (samples * of_all.shape[-1])) if len(group) == 1 else of_all.shape[1]
        pieces += [
            partial(_conclude, group, of_all, slice(start, start + step)) for start in range(0, of_all.shape[1], step)
        ]
    return pieces


def _conclude(group: Sequence[Job], outputs: Float32, some: slice, workspace: Workspace) -> None:
    """Leaves with jobs of a kind what these rows of outputs [samples, rows of all, width] say."""
    part, rows = outputs[:, some], len(group[0].rows)
    if not np.isfinite(part).all():
        bad = some.start + np.unique(np.argwhere(~np.isfinite(part))[:, 1])
        for place in np.unique(bad // rows):
            group[place].overflows(int(bad[bad // rows == place][0] % rows))
        healthy = [place for place, job in enumerate(group) if job.failure is None]
        if len(group) > 1 and healthy:
            kept = outputs.reshape(len(outputs), len(group), rows, -1)[:, healthy]
            _conclude(
                [group[i] for i in healthy],
                kept.reshape(len(outputs), -1, outputs.shape[-1]),
                slice(0, None),
                workspace,
            )
        return
    answer = _answer(group[0], part)
    if len(group) == 1:
        group[0].parts[some.start] = answer
        return
    for place, job in enumerate(group):
        job.parts[0] = _rows(answer, slice(place * rows, (place + 1) * rows))


def _answer(job: Job, outputs: Float32) -> Answer:
    """What outputs [samples, rows, width] say, whoever asked for the rows."""
    manifest, sampling = job.model.manifest, job.sampling
    if manifest.task == "classification":
        draws = uncertainty.class_probabilities(outputs, job.model.temperature)
        if sampling is None:
            return Prediction(_mean(draws), None)
        aggregate: Literal["mean", "vote"] = "vote" if sampling.aggregate == "vote" else "mean"
        threshold = job.model.threshold(*_asked(sampling, len(outputs)))
        told = uncertainty.summarise_classification(draws, aggregate, job.weights(len(outputs)), threshold)
        return Sampled(told, _laid_out(draws, sampling), len(outputs))
    regression = job.model.regression_draws(outputs)
    if sampling is None:
        known = regression.variances is not None and manifest.noise_variance is None
        std = np.sqrt(_mean(regression.variances)) if known and regression.variances is not None else None
        return Prediction(_mean(regression.means), std)
    widths = job.model.widths(*_asked(sampling, len(outputs)))
    summary = uncertainty.summarise_regression(regression, sampling.level, sampling.quantiles, widths)
    return Sampled(summary, _laid_out(regression.means, sampling), len(outputs))


def _mean(draws: Float64) -> Float64:
    """Full networks [rows, outputs, members] as one answer: what they say on average."""
    return draws[..., 0] if draws.shape[-1] == 1 else mean_over_samples(draws)


def _asked(sampling: Sampling, samples: int) -> tuple[str, int, float | None, float]:
    """What decides whether a calibration holds, and the level that it is asked for; `samples` are summarised in all."""
    return sampling.method, samples, sampling.committee.p, sampling.level


def _laid_out(draws: Float64, sampling: Sampling) -> Float64 | None:
    """Draws [rows, outputs, samples] as the answer has them: [samples, rows, outputs], here, on an engine thread."""
    return np.ascontiguousarray(draws.transpose(2, 0, 1)) if sampling.return_draws else None


def _rows(answer: Answer, some: slice) -> Answer:
    """The part of an answer that is about these rows."""
    if isinstance(answer, Prediction):
        return Prediction(answer.mean[some], None if answer.aleatoric_std is None else answer.aleatoric_std[some])
    draws = None if answer.draws is None else answer.draws[:, some]
    return Sampled(answer.summary.some(some), draws, answer.samples)


def joined(parts: Sequence[Any]) -> Any:
    """Answers about successive rows as one."""
    if isinstance(parts[0], Prediction):
        return uncertainty.joined(parts)
    draws = [part.draws for part in parts if part.draws is not None]
    summary = uncertainty.joined([part.summary for part in parts])
    return Sampled(summary, np.concatenate(draws, axis=1) if draws else None, parts[0].samples)
