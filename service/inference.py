"""A request's whole story in one screen: resolve → admit → evaluate → summarise.

Knows nothing of HTTP, and nothing of how requests share the machine: `batching` decides that.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from models.architecture import RegressionHead
from models.features import Float32, Float64, standardise
from models.manifest import Manifest
from models.repository import CorruptVersion, Repository
from service.batching import Batcher, Timings
from service.engine import uncertainty
from service.engine.evaluate import Evaluation, Piece
from service.engine.masks import STREAM_VERSION
from service.engine.plan import Network, RowPlan, compile_network
from service.engine.query import Committee, Query
from service.engine.tiles import Workspace
from service.engine.uncertainty import ClassificationSummary, RegressionSummary
from service.engine.verify import with_verified_plan
from service.errors import InvalidRequest, ModelNotReady, NotApplicable, UnknownModel

logger = logging.getLogger(__name__)

Summary = TypeVar("Summary")

# What the bits of an answer depend on in this process.
_BUILD = (torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine())
# Numbers that one piece of summarising reads: some ten milliseconds' work.
SUMMARY_NUMBERS = 1 << 17


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A version that passed verification, ready to answer."""

    manifest: Manifest
    network: Network
    dense: bool = False

    @property
    def fingerprint(self) -> str:
        """What an answer's bits depend on besides the request: the model, and this kind of processor and build."""
        plan = self.network.row_plan
        named = (self.manifest.name, self.manifest.version, self.manifest.digest)
        return ":".join(map(str, (*named, STREAM_VERSION, plan.kind, plan.rows, self.dense, *_BUILD)))


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """A sampling request, validated: rows [rows, inputs] in raw units, and whom to ask about what.

    `seeded` says whether the caller chose the seed, so that the answer can be asked for again.
    """

    rows: Float64
    committee: Committee
    seeded: bool = True
    method: Literal["dropout", "ensemble"] = "dropout"
    aggregate: Literal["mean", "vote", "weighted"] = "mean"
    level: float = 0.9
    quantiles: tuple[float, ...] = ()
    return_draws: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """The full network's answer in raw units; for classifications `mean` are probabilities. All [rows, outputs]."""

    mean: Float64
    aleatoric_std: Float64 | None
    timings: Timings


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The committee's answer; `draws` is [samples, rows, outputs] where it was asked for."""

    summary: RegressionSummary | ClassificationSummary
    draws: Float64 | None
    timings: Timings


class Inference:
    """The models that are served, and how to ask them."""

    def __init__(self, repository: Repository, batcher: Batcher, *, dense: bool = False) -> None:
        self._batcher = batcher
        self._models: dict[str, dict[str, ServedModel | None]] = {
            name: {version: load(repository, name, version, dense=dense) for version in repository.versions(name)}
            for name in repository.names()
        }

    @property
    def models(self) -> Mapping[str, Mapping[str, ServedModel | None]]:
        """Every version in the store by name, oldest first; None for one that failed verification."""
        return self._models

    def resolve(self, name: str, version: str | None = None) -> ServedModel:
        """The named version, by default the newest that is ready.

        Raises UnknownModel, naming those that exist, or ModelNotReady.
        """
        versions = self._models.get(name)
        if versions is None:
            raise UnknownModel(f"there is no model of that name; there are: {', '.join(self._models) or 'none'}")
        if version is None:
            model = newest_ready(versions)
        elif version in versions:
            model = versions[version]
        else:
            raise UnknownModel(f"{name} has no such version; there are: {', '.join(versions)}")
        if model is None:
            raise ModelNotReady("this version did not pass verification and is not served; see the service's log")
        return model

    async def predict(self, model: ServedModel, rows: Float64, patience: float) -> Predicted:
        """Asks the full network about rows [rows, inputs] in raw units, waiting at most `patience` seconds in line."""
        query = Query(standardise(rows, model.manifest.inputs))
        parts, timings = await self._run(model, query, partial(_prediction, model.manifest), patience)
        mean, std = uncertainty.joined([part[0] for part in parts]), uncertainty.joined([part[1] for part in parts])
        return Predicted(mean, std, timings)

    async def sample(self, model: ServedModel, sampling: Sampling, patience: float) -> Sampled:
        """Asks a committee.

        Raises NotApplicable where the model has no members or no active dropout, before anything is computed.
        """
        committee = sampling.committee
        if sampling.method == "ensemble":
            raise NotApplicable(f"{model.manifest.name} has no ensemble members: ask for method dropout")
        if sampling.aggregate == "weighted":
            raise NotApplicable(
                f"{model.manifest.name} has no ensemble members to weigh: ask for aggregate mean or vote"
            )
        if not any(model.network.probabilities(committee.p)):
            raise NotApplicable(
                f"{model.manifest.name} has no active dropout here, so every sample would be the same: ask predict"
            )
        query = Query(standardise(sampling.rows, model.manifest.inputs), committee)
        parts, timings = await self._run(model, query, partial(_sampled, model.manifest, sampling), patience)
        summary = uncertainty.joined([part[0] for part in parts])
        draws = [part[1] for part in parts if part[1] is not None]
        return Sampled(summary, np.concatenate(draws, axis=1) if draws else None, timings)

    async def _run(
        self, model: ServedModel, query: Query, summarise: Callable[[Float32], Summary], patience: float
    ) -> tuple[list[Summary], Timings]:
        """The summaries of successive rows, and how long it took."""
        evaluation = Evaluation(model.network, query, self._batcher.threads, dense=model.dense)
        answers: dict[int, Summary] = {}
        timings = await self._batcher.run(_stages(evaluation, summarise, answers), patience)
        return [answers[start] for start in sorted(answers)], timings


def newest_ready(versions: Mapping[str, ServedModel | None]) -> ServedModel | None:
    """The version that is served by default; None while there is none."""
    return next((model for model in reversed(list(versions.values())) if model is not None), None)


def load(repository: Repository, name: str, version: str, *, dense: bool) -> ServedModel | None:
    """A version, verified and compiled; None, and a line in the log, where its files are not as they must be."""
    try:
        model = repository.load(name, version)
    except CorruptVersion as error:
        logger.error("not served: %s", error)  # noqa: TRY400 - the operator needs the finding, not our stack
        return None
    network = compile_network(model.manifest.architecture, model.tensors, RowPlan("aligned", 16))
    return ServedModel(model.manifest, with_verified_plan(network), dense)


def _stages(
    evaluation: Evaluation, summarise: Callable[[Float32], Summary], answers: dict[int, Summary]
) -> Iterator[Sequence[Piece]]:
    """The evaluation's stages, then one more that leaves summaries in `answers`, by their first row."""

    def conclude(start: int, stop: int, _: Workspace) -> None:
        outputs = evaluation.outputs[:, start:stop]
        if not np.isfinite(outputs).all():
            row = start + int(np.argwhere(~np.isfinite(outputs))[:, 1].min())
            raise InvalidRequest([(f"inputs[{row}]", "is so far from the training data that the network overflows")])
        answers[start] = summarise(outputs)

    yield from evaluation.stages()
    samples, rows, width = evaluation.outputs.shape
    step = max(1, SUMMARY_NUMBERS // (samples * width))
    yield [partial(conclude, start, min(start + step, rows)) for start in range(0, rows, step)]


def _prediction(manifest: Manifest, outputs: Float32) -> tuple[Float64, Float64 | None]:
    if manifest.task == "classification":
        return uncertainty.class_probabilities(outputs)[..., 0], None
    draws = _regression_draws(manifest, outputs)
    head_variances = draws.variances if manifest.noise_variance is None else None
    return draws.means[..., 0], None if head_variances is None else np.sqrt(head_variances[..., 0])


def _sampled(
    manifest: Manifest, sampling: Sampling, outputs: Float32
) -> tuple[RegressionSummary | ClassificationSummary, Float64 | None]:
    summary: RegressionSummary | ClassificationSummary
    if manifest.task == "classification":
        draws = uncertainty.class_probabilities(outputs)
        summary = uncertainty.summarise_classification(draws, "vote" if sampling.aggregate == "vote" else "mean")
    else:
        regression = _regression_draws(manifest, outputs)
        draws = regression.means
        summary = uncertainty.summarise_regression(regression, sampling.level, sampling.quantiles)
    # Laid out for the answer here, on an engine thread.
    return summary, np.ascontiguousarray(draws.transpose(2, 0, 1)) if sampling.return_draws else None


def _regression_draws(manifest: Manifest, outputs: Float32) -> uncertainty.RegressionDraws:
    head: Any = manifest.architecture.head
    noise = manifest.noise_variance
    return uncertainty.regression_draws(
        outputs,
        mean=np.array([target.mean for target in manifest.targets]),
        scale=np.array([target.scale for target in manifest.targets]),
        variance_head=isinstance(head, RegressionHead) and head.variance,
        noise_variance=None if noise is None else np.array(noise),
    )
