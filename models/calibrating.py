"""What held-out rows say of trained networks: how noisy their targets are, how far to trust them, how good they are.

Validation rows fit, test rows measure; none of it touches a network. Knows nothing of training or of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models import evaluation
from models.architecture import Architecture, RegressionHead
from models.calibration import Calibration, Method
from models.conformal import class_scores, conformal, covered, regression_scores, sets_of
from models.features import ClassLabel, Float64, Target
from models.held_out import HeldOut
from models.layers import dropout_sites
from models.manifest import DEFAULT_SAMPLES, Manifest, Member, Quantity, ValidationUncertainty
from models.mixed import standardise
from models.networks import build
from models.repository import Model, serialise
from models.stacking import stacking_weights

# The prior for temperature 1 where rows may be few, see `evaluation`. Measured on samples of 60 rows of eight public
# tables and a made-up one, with a fifth of them for the temperature: the log-likelihood of another row is better by
# 0.14 for regressions, and by 0.8 for classifications, whose few rows may all be right, which is likeliest under a
# temperature of 0. On samples of 200 rows it is worse by 0.01 and better by 0.04; of 1000 (regressions) it is the same.
PRIOR_ROWS = 10.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a manifest says of held-out rows; see there."""

    noise_variance: tuple[float, ...] | None
    calibration: Calibration
    uncertainty: ValidationUncertainty | None
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """Networks to be asked about rows in standard units: one, or an ensemble's members; and what their outputs are."""

    networks: Sequence[nn.Module]
    architecture: Architecture
    outputs: Sequence[Target] | Sequence[ClassLabel]

    def draws(self, rows: Tensor, samples: int, method: Method | None = None) -> Float64:
        """Outputs of thinned networks [samples, rows, width], asked as the version's figures are, or by a method.

        Each row has masks of its own, as under other seeds.
        """
        asked = self.networks if (method or self.method) == "ensemble" else self.networks[:1]
        return evaluation.monte_carlo_of_all(asked, rows, samples)

    @property
    def method(self) -> Method:
        """How all networks are asked."""
        return "dropout" if len(self.networks) == 1 else "ensemble"

    @property
    def methods(self) -> tuple[Method, ...]:
        """The ways of asking that have a committee."""
        thinned: tuple[Method, ...] = ("dropout",) if any(self.sites) else ()
        return (*thinned, "ensemble") if len(self.networks) > 1 else thinned

    @property
    def sites(self) -> tuple[float, ...]:
        """Every dropout site's p."""
        return tuple(site.p for site in dropout_sites(self.architecture.layers()))

    @property
    def units(self) -> tuple[Float64, Float64]:
        """Mean and scale of each target of a regression."""
        targets = [output for output in self.outputs if isinstance(output, Target)]
        return np.array([target.mean for target in targets]), np.array([target.scale for target in targets])


class Normals(NamedTuple):
    """The mixture that a committee predicts with: means and variances [samples, rows, outputs] in raw units."""

    means: Float64
    variances: Float64

    @property
    def std(self) -> Float64:
        """The standard deviation of the mixture [rows, outputs]."""
        return np.asarray(np.sqrt(self.means.var(axis=0, ddof=1) + self.variances.mean(axis=0)))


def fit(
    subject: Subject,
    rows: Tensor,
    targets: npt.NDArray[Any],
    samples: int = DEFAULT_SAMPLES,
    prior_rows: float = 0.0,
) -> Fitted:
    """What rows that no weight was fitted to say, asked by committees of `samples`.

    rows [rows, inputs] in standard units; targets [rows, outputs] in raw units, or classes [rows]. The belief that the
    temperature is 1 weighs as much as `prior_rows`.
    """
    if isinstance(subject.architecture.head, RegressionHead):
        return _fit_numbers(subject, rows, targets, samples, prior_rows)
    return _fit_classes(subject, rows, targets, samples, prior_rows)


def _fit_numbers(subject: Subject, rows: Tensor, targets: Float64, samples: int, prior_rows: float) -> Fitted:
    head, (_, scale) = subject.architecture.head, subject.units
    assert isinstance(head, RegressionHead), "it has numbers to fit to. This is a bug."
    noise, temperature = None, None
    draws = subject.draws(rows, samples)
    if head.variance:
        temperature = evaluation.fit_temperature(targets, *in_raw_units(subject, draws, None, None), prior_rows)
    else:
        noise = tuple(evaluation.fit_noise_variance(targets, _means(subject, draws)).tolist())
    asked = {
        method: in_raw_units(subject, subject.draws(rows, samples, method), noise, temperature)
        for method in subject.methods
    }
    scores = {
        method: regression_scores(targets, normals.means.mean(axis=0), normals.std, scale)
        for method, normals in asked.items()
    }
    told = None
    if own := asked.get("dropout"):
        told = evaluation.regression_uncertainty(own.means / scale, own.variances / scale**2)
    return Fitted(noise, _calibration(subject, temperature, scores, samples), _told(told, samples))


def _fit_classes(
    subject: Subject, rows: Tensor, classes: npt.NDArray[np.int64], samples: int, prior_rows: float
) -> Fitted:
    temperature = evaluation.fit_class_temperature(classes, subject.draws(rows, samples), prior_rows)
    asked = {method: subject.draws(rows, samples, method) / temperature for method in subject.methods}
    scores = {method: class_scores(classes, evaluation.committee(draws)) for method, draws in asked.items()}
    told = evaluation.classification_uncertainty(asked["dropout"]) if "dropout" in asked else None
    return Fitted(
        None,
        _calibration(subject, temperature, scores, samples),
        _told(told, samples),
        _weighed(subject, rows, classes, temperature),
    )


def _weighed(subject: Subject, rows: Tensor, classes: npt.NDArray[np.int64], temperature: float) -> tuple[Member, ...]:
    """An ensemble's members, with the weights that their committees' tempered probabilities deserve."""
    if len(subject.networks) == 1:
        return ()
    truth = np.arange(len(classes)), classes
    committees = (evaluation.committee(evaluation.monte_carlo(one, rows) / temperature) for one in subject.networks)
    weights = stacking_weights(np.stack([committee[truth] for committee in committees]))
    return tuple(Member(weight=weight) for weight in weights.tolist())


def _calibration(
    subject: Subject, temperature: float | None, scores: dict[Method, Float64], samples: int
) -> Calibration:
    found = {method: conformal(each, subject.sites, samples, method) for method, each in scores.items()}
    return Calibration(
        temperature=temperature, conformal=found.get("dropout"), conformal_ensemble=found.get("ensemble")
    )


def subject_of(manifest: Manifest, networks: Sequence[Mapping[str, Tensor]]) -> Subject:
    """The networks of a version, from their tensors by name."""
    built = [build(manifest.architecture) for _ in networks]
    for network, tensors in zip(built, networks, strict=True):
        network.load_state_dict(dict(tensors))
    return Subject(built, manifest.architecture, manifest.outputs)


def calibrated(
    model: Model, held: HeldOut, version: str, samples: int, prior_rows: float = PRIOR_ROWS
) -> tuple[Manifest, bytes]:
    """A new version of a model with the same networks, calibrated with other rows; what was measured is left out."""
    manifest = model.manifest
    rows = torch.from_numpy(standardise(held.inputs, manifest.inputs))
    fitted = fit(subject_of(manifest, model.networks), rows, held.targets, samples, prior_rows)
    weights = serialise(model.tensors)
    provenance = {"data": held.source, "rows": len(rows), "of_version": manifest.version}
    draft = manifest.model_copy(
        update={
            "version": version,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "members": fitted.members or manifest.members,
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
    """Held-out figures of the calibrated networks; rows and targets as for `fit`, but other rows."""
    full = evaluation.full_networks(subject.networks, rows)
    draws, calibration = subject.draws(rows, evaluation.SAMPLES), fitted.calibration
    # Conformal quantiles hold for as many samples as they were made with.
    held = next((found for found in calibration.all_conformal if found.method == subject.method), None)
    few = slice(None) if held is None else slice(held.samples)
    if not isinstance(subject.architecture.head, RegressionHead):
        temperature = calibration.temperature or 1.0
        mean = evaluation.mean_logits(full / temperature)
        figures = evaluation.classification_metrics(targets, mean, draws / temperature)
        if held is not None:
            sets = sets_of(evaluation.committee(draws[few] / temperature), held, evaluation.LEVEL)
            hits = sets[np.arange(len(targets)), targets]
            figures |= {"set_coverage_90": float(hits.mean()), "set_size_90": float(sets.sum(axis=1).mean())}
        return figures
    normals = in_raw_units(subject, draws, fitted.noise_variance, calibration.temperature)
    figures = evaluation.regression_metrics(targets, _means(subject, full).mean(axis=0), *normals)
    if held is not None:
        some = Normals(normals.means[few], normals.variances[few])
        scores = regression_scores(targets, some.means.mean(axis=0), some.std, subject.units[1])
        figures["conformal_coverage_90"] = float(covered(scores, held, evaluation.LEVEL).mean())
    return figures


def _means(subject: Subject, draws: Float64) -> Float64:
    """Means [samples, rows, outputs] in raw units."""
    mean, scale = subject.units
    return np.asarray(draws[..., : len(mean)] * scale + mean)


def in_raw_units(subject: Subject, draws: Float64, noise: Sequence[float] | None, temperature: float | None) -> Normals:
    """What draws predict; their variances are a head's, tempered, where the noise is not known."""
    means, (mean, scale) = _means(subject, draws), subject.units
    if noise is not None:
        return Normals(means, np.broadcast_to(np.array(noise), means.shape))
    return Normals(means, evaluation.variance_of(draws[..., len(mean) :]) * scale**2 * (temperature or 1.0))


def _told(found: dict[Quantity, Float64] | None, samples: int) -> ValidationUncertainty | None:
    """How uncertain committees are that are asked without a method; None where there are none."""
    if found is None:
        return None
    (values,) = {each.size for each in found.values()}
    distributions = {quantity: evaluation.distribution(each) for quantity, each in found.items()}
    return ValidationUncertainty(samples=samples, values=values, distributions=distributions)
