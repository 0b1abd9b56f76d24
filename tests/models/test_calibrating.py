"""What held-out rows say of a network: temperatures that were put in come out, and the weights stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from models import evaluation
from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.calibrating import Subject, calibrated, fit, measure
from models.held_out import HeldOut
from models.repository import Repository
from tests.models.examples import module_of, rows_of, sealed, version_of

ROWS = 4000


@pytest.mark.parametrize("temperature", [0.25, 1.0, 6.0])
def test_temperature_of_a_variance_head(temperature):
    """Targets with `temperature` times the variance that a head claims give that temperature, to four deviations."""
    rng = np.random.Generator(np.random.PCG64(1))
    variances = rng.uniform(0.5, 2.0, (1, ROWS, 1))
    targets = np.sqrt(temperature * variances[0]) * rng.standard_normal((ROWS, 1))
    found = evaluation.fit_temperature(targets, np.zeros((1, ROWS, 1)), variances)
    assert found == pytest.approx(temperature, rel=4 * np.sqrt(2 / ROWS))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_of_logits(temperature):
    """Classes drawn with tempered probabilities give the temperature that tempered them."""
    rng = np.random.Generator(np.random.PCG64(2))
    logits = 3.0 * rng.standard_normal((ROWS, 3))
    classes = (softmax(logits / temperature, axis=1).cumsum(axis=1) < rng.random((ROWS, 1))).sum(axis=1)
    assert evaluation.fit_class_temperature(classes, logits[None]) == pytest.approx(temperature, rel=0.12)


def test_a_prior_keeps_temperatures_of_few_rows_near_1():
    """Of ten rows the temperature is half as far from 1, by its logarithm; of thousands it is the same."""
    rng = np.random.Generator(np.random.PCG64(3))
    for rows, expected in ((10, 0.6), (ROWS, 0.36)):
        targets = rng.standard_normal((rows, 1))
        targets *= 0.6 / np.sqrt(np.mean(targets**2))  # so that 0.36 is the likeliest
        asked = targets, np.zeros((1, rows, 1)), np.ones((1, rows, 1))
        assert evaluation.fit_temperature(*asked) == pytest.approx(0.36, rel=1e-3)
        assert evaluation.fit_temperature(*asked, prior_rows=10.0) == pytest.approx(expected, rel=0.15)


def test_a_prior_keeps_few_right_answers_from_certainty():
    """Rows that are all right are likeliest under a temperature of 0, which says nothing of the next ones."""
    logits = np.tile([2.0, 0.0], (1, 12, 1))
    classes = np.zeros(12, np.int64)
    assert evaluation.fit_class_temperature(classes, logits) < 0.06
    assert evaluation.fit_class_temperature(classes, logits, prior_rows=10.0) > 0.5


def subject_of(head, dropout=0.3):
    """A network with random weights."""
    spec = Mlp(inputs=2, hidden=(8,), dropout=dropout, head=head)
    return Subject([module_of(spec)], spec, sealed(spec).outputs)


@pytest.mark.parametrize("head", [RegressionHead(outputs=2), RegressionHead(outputs=2, variance=True)])
def test_coverage_on_other_rows(head):
    """Intervals that are calibrated on half of the rows hold 90 % of the others, whatever the network is worth."""
    subject, rows = subject_of(head), rows_of(1600, 2)
    targets = 5.0 * np.random.default_rng(0).standard_t(3, (1600, 2))
    fitted = fit(subject, rows[:800], targets[:800])
    figures = measure(subject, fitted, rows[800:], targets[800:])
    assert abs(figures["conformal_coverage_90"] - 0.9) < 4 * np.sqrt(2 * 0.09 / 800)
    assert (fitted.noise_variance is None) == head.variance
    assert (fitted.calibration.temperature is not None) == head.variance


def test_sets_on_other_rows():
    """Prediction sets hold 90 % of the classes at least, though the network knows nothing."""
    subject, rows = subject_of(ClassificationHead(classes=3)), rows_of(1600, 2)
    classes = np.random.default_rng(0).integers(0, 3, 1600)
    fitted = fit(subject, rows[:800], classes[:800])
    figures = measure(subject, fitted, rows[800:], classes[800:])
    assert figures["set_coverage_90"] > 0.9 - 4 * np.sqrt(2 * 0.09 / 800)
    assert 1.0 <= figures["set_size_90"] <= 3.0


@pytest.mark.parametrize("head", [RegressionHead(variance=True), ClassificationHead(classes=3)])
def test_without_dropout(head):
    """Without dropout there is a temperature, for predictions, and nothing about committees."""
    targets = rows_of(50, 1).double().numpy() if head.kind == "regression" else np.arange(50) % 3
    fitted = fit(subject_of(head, dropout=0.0), rows_of(50, 2), targets)
    assert fitted.calibration.temperature is not None
    assert fitted.calibration.conformal is None
    assert fitted.uncertainty is None


@pytest.mark.parametrize("head", [RegressionHead(variance=True), ClassificationHead(classes=3)])
@pytest.mark.parametrize("dropout", [0.3, 0.0])
def test_an_ensembles_methods(head, dropout):
    """All members together give the temperature; each method that has a committee has quantiles of its own."""
    spec = Mlp(inputs=2, hidden=(8,), dropout=dropout, head=head)
    networks, rows = [module_of(spec, seed) for seed in range(3)], rows_of(60, 2)
    targets = rows_of(60, 1, seed=1).double().numpy() if head.kind == "regression" else np.arange(60) % 3
    subject = Subject(networks, spec, sealed(spec).outputs)
    fitted = fit(subject, rows, targets, samples=20)
    methods = [found.method for found in fitted.calibration.all_conformal]
    assert methods == ["dropout", "ensemble"][dropout == 0.0 :]
    assert fitted.calibration.conformal_ensemble.samples == 20
    assert (fitted.uncertainty is None) == (dropout == 0.0)
    draws = evaluation.monte_carlo_of_all(networks, rows, 20)
    if head.kind == "classification":
        temperature = evaluation.fit_class_temperature(targets, draws)
        assert len(fitted.members) == 3
        assert sum(member.weight for member in fitted.members) == pytest.approx(1.0)
    else:
        (target,) = subject.outputs
        variances = evaluation.variance_of(draws[..., 1:]) * target.scale**2
        temperature = evaluation.fit_temperature(targets, draws[..., :1] * target.scale + target.mean, variances)
        assert fitted.members == ()
    assert fitted.calibration.temperature == temperature
    figures = measure(subject, fitted, rows, targets)
    assert figures["conformal_coverage_90" if head.kind == "regression" else "set_coverage_90"] >= 0.85


def test_only_the_calibration_changes(tmp_path):
    """A version that is calibrated again has the same weights and another digest, and holds for its samples."""
    spec = Mlp(inputs=2, hidden=(8,), dropout=0.3, head=RegressionHead(variance=True))
    repository = Repository(tmp_path)
    repository.publish(*version_of(spec, metrics={"test": {"rmse": 1.0}}, provenance={"recipe": "net"}))
    model = repository.load("net")
    held = HeldOut(rows_of(60, 2).double().numpy(), rows_of(60, 1, seed=1).double().numpy(), "rows.csv")
    repository.publish(*calibrated(model, held, "2", samples=30))
    again = repository.load("net")
    assert again.manifest.version == "2"
    assert again.manifest.weights_sha256 == model.manifest.weights_sha256
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in model.tensors.items())
    assert again.manifest.digest != model.manifest.digest
    assert again.manifest.calibration.conformal.samples == again.manifest.default_samples == 30
    assert again.manifest.calibration.conformal.rows == 60
    assert again.manifest.metrics == {}
    assert again.manifest.provenance == {
        "recipe": "net",
        "calibrated": {"data": "rows.csv", "rows": 60, "of_version": "1"},
    }
    assert calibrated(model, held, "2", samples=30)[0] == again.manifest
