"""What held-out rows say of a trained network: how noisy its targets are, how far to trust it, how good it is.

Validation rows fit, test rows measure; none of it touches a weight. Knows nothing of training or of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models import evaluation
from models.architecture import Architecture, RegressionHead
from models.calibration import Calibration
from models.conformal import class_scores, conformal, covered, regression_scores, sets_of
from models.features import ClassLabel, Float64, Target, standardise
from models.held_out import HeldOut
from models.layers import dropout_sites
from models.manifest import DEFAULT_SAMPLES, Manifest, ValidationUncertainty
from models.networks import build
from models.repository import Model, serialise


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a manifest says of held-out rows; see there."""

    noise_variance: tuple[float, ...] | None
    calibration: Calibration
    uncertainty: ValidationUncertainty | None


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network to be asked about rows in standard units, and what its outputs are."""

    network: nn.Module
    architecture: Architecture
    outputs: Sequence[Target] | Sequence[ClassLabel]

    def draws(self, rows: Tensor, samples: int) -> Float64:
        """Outputs of thinned networks [samples, rows, width]; each row has masks of its own, as under other seeds."""
        return evaluation.monte_carlo(self.network, rows, samples)

    @property
    def sites(self) -> tuple[float, ...]:
        """Every dropout site's p."""
        return tuple(site.p for site in dropout_sites(self.architecture.layers()))

    @property
    def units(self) -> tuple[Float64, Float64]:
        """Mean and scale of each target of a regression."""
        targets = [output for output in self.outputs if isinstance(output, Target)]
        return np.array([target.mean for target in targets]), np.array([target.scale for target in targets])


class _Normals(NamedTuple):
    """The mixture that a committee predicts with: means and variances [samples, rows, outputs] in raw units."""

    means: Float64
    variances: Float64

    @property
    def std(self) -> Float64:
        return np.asarray(np.sqrt(self.means.var(axis=0, ddof=1) + self.variances.mean(axis=0)))


def fit(subject: Subject, rows: Tensor, targets: npt.NDArray[Any], samples: int = DEFAULT_SAMPLES) -> Fitted:
    """What rows that no weight was fitted to say, asked by committees of `samples`.

    rows [rows, inputs] in standard units; targets [rows, outputs] in raw units, or classes [rows].
    """
    draws, head = subject.draws(rows, samples), subject.architecture.head
    active = any(subject.sites)
    if not isinstance(head, RegressionHead):
        temperature = evaluation.fit_class_temperature(targets, draws)
        probabilities = evaluation.committee(draws / temperature)
        quantiles = conformal(class_scores(targets, probabilities), subject.sites, samples) if active else None
        found = evaluation.classification_uncertainty(draws / temperature)
        return Fitted(None, Calibration(temperature=temperature, conformal=quantiles), _told(found, samples, active))
    mean, scale = subject.units
    means = draws[..., : head.outputs] * scale + mean
    calibration, noise = Calibration(), None
    if head.variance:
        variances = evaluation.variance_of(draws[..., head.outputs :]) * scale**2
        tempered = evaluation.fit_temperature(targets, means, variances)
        calibration, variances = Calibration(temperature=tempered), variances * tempered
    else:
        noise = evaluation.fit_noise_variance(targets, means)
        variances = np.broadcast_to(noise, means.shape)
    normals = _Normals(means, variances)
    scores = regression_scores(targets, means.mean(axis=0), normals.std, scale)
    quantiles = conformal(scores, subject.sites, samples) if active else None
    found = evaluation.regression_uncertainty(means / scale, variances / scale**2)
    return Fitted(
        None if noise is None else tuple(noise.tolist()),
        calibration.model_copy(update={"conformal": quantiles}),
        _told(found, samples, active),
    )


def calibrated(model: Model, held: HeldOut, version: str, samples: int) -> tuple[Manifest, bytes]:
    """A new version of a model with the same weights, calibrated with other rows; what was measured is left out."""
    network, manifest = build(model.manifest.architecture), model.manifest
    network.load_state_dict(dict(model.tensors))
    rows = torch.from_numpy(standardise(held.inputs, manifest.inputs))
    fitted = fit(Subject(network, manifest.architecture, manifest.outputs), rows, held.targets, samples)
    weights = serialise(model.tensors)
    provenance = {"data": held.source, "rows": len(rows), "of_version": manifest.version}
    draft = manifest.model_copy(
        update={
            "version": version,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "noise_variance": fitted.noise_variance,
            "calibration": fitted.calibration,
            "uncertainty": fitted.uncertainty,
            "default_samples": samples,
            # They were those of the earlier calibration.
            "metrics": {},
            "provenance": {**manifest.provenance, "calibrated": provenance},
        }
    )
    return draft.model_copy(update={"digest": draft.computed_digest()}), weights


def measure(subject: Subject, fitted: Fitted, rows: Tensor, targets: npt.NDArray[Any]) -> dict[str, Any]:
    """Held-out figures of the calibrated network; rows and targets as for `fit`, but other rows."""
    full, draws = evaluation.full_network(subject.network, rows), subject.draws(rows, evaluation.SAMPLES)
    head, calibration = subject.architecture.head, fitted.calibration
    # Conformal quantiles hold for as many samples as they were made with.
    held = calibration.conformal
    few = slice(None) if held is None else slice(held.samples)
    if not isinstance(head, RegressionHead):
        temperature = calibration.temperature or 1.0
        figures = evaluation.classification_metrics(targets, full / temperature, draws / temperature)
        if held is not None:
            sets = sets_of(evaluation.committee(draws[few] / temperature), held, evaluation.LEVEL)
            hits = sets[np.arange(len(targets)), targets]
            figures |= {"set_coverage_90": float(hits.mean()), "set_size_90": float(sets.sum(axis=1).mean())}
        return figures
    mean, scale = subject.units
    means = draws[..., : head.outputs] * scale + mean
    if head.variance:
        variances = evaluation.variance_of(draws[..., head.outputs :]) * scale**2 * (calibration.temperature or 1.0)
    else:
        assert fitted.noise_variance is not None, "it was fitted. This is a bug."
        variances = np.broadcast_to(np.array(fitted.noise_variance), means.shape)
    figures = evaluation.regression_metrics(targets, full[..., : head.outputs] * scale + mean, means, variances)
    if held is not None:
        normals = _Normals(means[few], variances[few])
        scores = regression_scores(targets, normals.means.mean(axis=0), normals.std, scale)
        figures["conformal_coverage_90"] = float(covered(scores, held, evaluation.LEVEL).mean())
    return figures


def _told(found: dict[Any, Float64], samples: int, active: bool) -> ValidationUncertainty | None:
    """How uncertain committees are; None without dropout."""
    if not active:
        return None
    (values,) = {each.size for each in found.values()}
    distributions = {quantity: evaluation.distribution(each) for quantity, each in found.items()}
    return ValidationUncertainty(samples=samples, values=values, distributions=distributions)
