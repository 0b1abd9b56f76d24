"""Method "moments": what a committee would say, worked out in one pass instead of sampled. Approximate, no seed.

Outputs are taken to be normal, with the mean and covariance of `engine.moments`. Knows nothing of queues or HTTP.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from models.architecture import VARIANCE_FLOOR, RegressionHead
from models.features import Float32, Float64
from service.engine import moments, uncertainty
from service.engine.evaluation import Piece, runs
from service.engine.moments import Moments
from service.engine.uncertainty import ClassificationSummary, Interval, RegressionSummary
from service.engine.workspace import Workspace
from service.jobs import Job, Sampled, Sampling
from service.served import ServedModel

# Of one core: a multiply-add in float64, and what a row takes besides.
_MULTIPLY_ADD, _ROW = 1e-10, 3e-4
# Points that stand for the normal distribution of the logits.
_POINTS = 512
_PIECE_SECONDS = 0.01


class Analytic(Job):
    """A committee's moments as a job: rows one by one, in pieces of some ten milliseconds."""

    def __init__(self, model: ServedModel, sampling: Sampling, known: Moments) -> None:
        super().__init__(model, sampling.rows, (model.network,), (model.network.cut(sampling.committee.p),), sampling)
        self._moments = known

    @property
    @override
    def seconds(self) -> float:
        """About how long one core takes for it."""
        return len(self.rows) * self._row_seconds

    @property
    @override
    def company(self) -> Hashable:
        """None: there is nothing that rows could share."""
        return None

    @property
    def _row_seconds(self) -> float:
        return self._moments.work * _MULTIPLY_ADD + _ROW

    @override
    def stages(self, company: Sequence[Job], threads: int) -> Iterator[Sequence[Piece]]:
        """A single stage. Raises InvalidRows where a row is out of float32's reach."""
        rows = self.model.standard(self.rows)
        step = max(1, int(_PIECE_SECONDS / self._row_seconds))
        yield [partial(self._tell, rows, some) for some in runs(len(rows), step)]

    def _tell(self, rows: Float32, some: slice, _: Workspace) -> None:
        """Leaves what these rows' moments say."""
        mean, covariance = moments.rows_of([self._moments.of(row) for row in rows[some]])
        finite = torch.isfinite(mean).all(dim=1) & torch.isfinite(covariance).all(dim=2).all(dim=1)
        if not bool(finite.all()):
            self.overflows(some.start + int((~finite).nonzero()[0]))
            return
        assert self.sampling is not None, "a prediction has no moments. This is a bug."
        classes = self.model.manifest.task == "classification"
        tempered = mean / self.model.temperature, covariance / self.model.temperature**2
        told = _of_classes(*tempered) if classes else self._of_numbers(mean, covariance, self.sampling)
        self.parts[some.start] = Sampled(told, None, 0)

    def _of_numbers(self, mean: Tensor, covariance: Tensor, sampling: Sampling) -> RegressionSummary:
        """Law of total variance, like `summarise_regression`; intervals and quantiles are those of one normal."""
        head, manifest = self.model.manifest.architecture.head, self.model.manifest
        variance = covariance.diagonal(dim1=1, dim2=2)
        outputs = len(manifest.targets)
        shift, scale = (np.array([getattr(target, part) for target in manifest.targets]) for part in ("mean", "scale"))
        centre = mean[:, :outputs].numpy() * scale + shift
        epistemic = variance[:, :outputs].numpy() * scale**2
        noise: Float64 | None = None
        if isinstance(head, RegressionHead) and head.variance:
            spoken = zip(mean[:, outputs:], variance[:, outputs:], strict=True)
            expected = [moments.expectation(functional.softplus, *row).numpy() for row in spoken]
            noise = (np.stack(expected) + VARIANCE_FLOOR) * (scale**2 * self.model.temperature)
        elif manifest.noise_variance is not None:
            noise = np.broadcast_to(np.array(manifest.noise_variance), centre.shape).copy()
        total = epistemic if noise is None else epistemic + noise
        deviation = np.sqrt(total)

        def quantile(probability: float) -> Float64:
            return np.asarray(centre + NormalDist().inv_cdf(probability) * deviation)

        edge = NormalDist().inv_cdf((1.0 - sampling.level) / 2.0)
        return RegressionSummary(
            mean=centre,
            std=deviation,
            epistemic_std=np.sqrt(epistemic),
            aleatoric_std=None if noise is None else np.sqrt(noise),
            stderr=None,
            interval=Interval(
                sampling.level,
                "epistemic" if noise is None else "predictive",
                centre + edge * deviation,
                centre - edge * deviation,
            ),
            quantiles={probability: quantile(probability) for probability in sampling.quantiles},
        )


def _of_classes(mean: Tensor, covariance: Tensor) -> ClassificationSummary:
    """The summary of points that stand for normal logits: what samples of them would say, but for the votes."""
    points = moments.spread_points(mean.shape[1], _POINTS)
    draws = [
        torch.softmax(own + points @ moments.root(spread).T, dim=1)
        for own, spread in zip(mean, covariance, strict=True)
    ]
    probabilities = np.ascontiguousarray(torch.stack(draws).numpy().transpose(0, 2, 1))  # [rows, classes, points]
    return uncertainty.summarise_classification(probabilities, "mean")._replace(stderr=None, votes=None)
