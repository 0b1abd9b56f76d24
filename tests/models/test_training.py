"""The training loop: the same recipe gives the same digest, the best epoch is kept, and the noise is found."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from models import evaluation
from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.data import Dataset, split
from models.mixed import standardise
from models.networks import build
from models.repository import Repository
from models.training import Diverged, Hyperparameters, Recipe, train
from tests.models.examples import linear_data, two_clouds

FEW = Hyperparameters(max_epochs=3, batch_size=16)
REGRESSION = Recipe(
    name="tiny",
    description="A line.",
    load=lambda: linear_data(60, noise=5.0),
    architecture=Mlp(inputs=3, hidden=(8,), dropout=0.2, head=RegressionHead()),
    hyperparameters=FEW,
)
CLASSIFICATION = dataclasses.replace(
    REGRESSION, load=lambda: two_clouds(60), architecture=Mlp(inputs=2, hidden=(8,), head=ClassificationHead(classes=2))
)


def with_hyperparameters(recipe, **changes):
    """A recipe with some of its hyperparameters changed."""
    return dataclasses.replace(recipe, hyperparameters=dataclasses.replace(recipe.hyperparameters, **changes))


def with_architecture(recipe, **changes):
    """A recipe with some of its network's parts changed."""
    return dataclasses.replace(recipe, architecture=recipe.architecture.model_copy(update=changes))


def network_of(trained):
    """The trained network, built anew and filled from the weights file, in eval mode."""
    module = build(trained.manifest.architecture)
    module.load_state_dict(safetensors.torch.load(trained.weights))
    return module.eval()


@pytest.fixture
def threads():
    """Sets the number of torch's threads, and puts it back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def line():
    """The regression, trained once for the tests that only look at it."""
    return train(REGRESSION, "7")


@pytest.fixture(scope="module")
def clouds():
    """The classification, trained once for the tests that only look at it."""
    return train(CLASSIFICATION, "7")


# Repeatable


@pytest.mark.parametrize(("recipe", "name"), [(REGRESSION, "line"), (CLASSIFICATION, "clouds")])
def test_same_recipe_same_digest(recipe, name, request, threads):
    """The same recipe gives the same digest, whatever the global generators and the number of threads are."""
    first = request.getfixturevalue(name)
    threads(torch.get_num_threads() + 1)
    torch.rand(7)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what is tested
    second = train(recipe, "2")
    assert first.manifest.digest == second.manifest.digest
    assert first.weights == second.weights


def test_another_seed_another_digest():
    """Another seed gives other weights."""
    weights = {train(with_hyperparameters(CLASSIFICATION, seed=seed), "1").weights for seed in range(3)}
    assert len(weights) == 3


def test_one_thread_and_deterministic_kernels(threads):
    """While it trains torch has one thread and deterministic kernels, so that no number of cores changes the bits."""
    threads(2)
    seen = set()
    train(
        CLASSIFICATION, "1", lambda _: seen.add((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
    )
    assert seen == {(1, True)}


def test_nothing_is_left_behind(threads):
    """Training leaves the global generator, the number of threads and the deterministic switches as they were."""
    threads(2)
    generator = torch.get_rng_state()
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        train(CLASSIFICATION, "1")
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(mode=False)
    train(CLASSIFICATION, "1")
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), generator)


def test_nothing_is_left_behind_when_stopped(threads):
    """Training that is interrupted puts everything back too."""
    threads(2)
    generator = torch.get_rng_state()

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CLASSIFICATION, "1", interrupt)
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), generator)


def test_in_place_trains_the_same_network():
    """Dropout in place saves memory and nothing else: training gives the same weights, for every activation."""
    for activation in ("relu", "tanh"):
        recipe = with_architecture(CLASSIFICATION, activation=activation)
        in_place = train(with_architecture(recipe, inplace=True), "1")
        assert in_place.weights == train(recipe, "1").weights
        assert in_place.manifest.architecture.inplace


# What comes out


@pytest.mark.parametrize("name", ["line", "clouds"])
def test_what_comes_out_can_be_published(name, request, tmp_path):
    """A trained version fits together: it can be published, and is loaded as it was trained."""
    trained = request.getfixturevalue(name)
    store = Repository(tmp_path)
    store.publish(trained.manifest, trained.weights)
    model = store.load("tiny")
    assert model.manifest == trained.manifest
    assert model.manifest.version == "7"
    assert model.manifest.weights_sha256 == hashlib.sha256(trained.weights).hexdigest()


def test_provenance(clouds):
    """A manifest says from which recipe, data, rows and hyperparameters it came, and with which torch."""
    manifest = clouds.manifest
    epochs = manifest.provenance["epochs"]
    assert 1 <= epochs <= 3
    assert manifest.provenance == {
        "recipe": "tiny",
        "data": "synthetic",
        "rows": {"train": 36, "validation": 12, "test": 12},
        "hyperparameters": dataclasses.asdict(FEW),
        "epochs": epochs,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    assert manifest.description == "A line."


def test_held_out_rows_are_held_out(line):
    """What stands in the test rows changes the figures and nothing else: the digest is the same."""
    data = linear_data(60, noise=5.0)
    spoilt = data.numbers.copy()
    spoilt[split(60, FEW.seed).test] += 1000.0
    other = train(dataclasses.replace(REGRESSION, load=lambda: dataclasses.replace(data, targets=spoilt)), "1").manifest
    assert other.digest == line.manifest.digest
    assert other.metrics["test"]["rmse"] > line.manifest.metrics["test"]["rmse"]


def test_figures_can_be_worked_out_again(line):
    """The recorded error of the full network is that of the published weights on the held-out rows."""
    data = linear_data(60, noise=5.0)
    test = split(60, FEW.seed).test
    (target,) = line.manifest.targets
    with torch.no_grad():
        standard = network_of(line)(torch.from_numpy(standardise(data.inputs[test], line.manifest.inputs)))
    errors = data.numbers[test] - (standard.numpy() * target.scale + target.mean)
    recorded = line.manifest.metrics["test"]["rmse_full_network"]
    assert recorded == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-5)


# Epochs


def test_early_stopping():
    """Training stops `patience` epochs after the best one, and gives out that one's weights, not the last's."""
    recipe = Recipe(
        name="overfitting",
        description="More weights than rows.",
        load=lambda: linear_data(40, noise=40.0),
        architecture=Mlp(inputs=3, hidden=(64,), dropout=0.0, head=RegressionHead()),
        hyperparameters=Hyperparameters(learning_rate=0.03, weight_decay=0.0, max_epochs=200, patience=7),
    )
    epochs = []
    trained = train(recipe, "1", epochs.append)
    losses = [epoch.validation_loss for epoch in epochs]
    best = int(np.argmin(losses)) + 1
    assert trained.manifest.provenance["epochs"] == best
    assert len(losses) == best + 7 < 200
    assert losses[-1] > min(losses)

    data, parts = recipe.load(), split(40, 0)
    (target,) = trained.manifest.targets
    rows = torch.from_numpy(standardise(data.inputs[parts.validation], trained.manifest.inputs))
    wanted = torch.from_numpy((data.numbers[parts.validation] - target.mean) / target.scale)
    with torch.no_grad():
        loss = functional.mse_loss(network_of(trained)(rows).double(), wanted).item()
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_epochs_are_reported():
    """Every epoch is reported in order, with the best loss so far and the patience that is left."""
    epochs = []
    train(with_hyperparameters(CLASSIFICATION, max_epochs=6, patience=2), "1", epochs.append)
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    for number, epoch in enumerate(epochs):
        losses = [seen.validation_loss for seen in epochs[: number + 1]]
        assert epoch.of == 6
        assert epoch.best_loss == min(losses)
        assert epoch.patience_left == 2 - (len(losses) - 1 - losses.index(min(losses)))


def test_divergence_is_an_error():
    """Where no epoch has a finite validation loss there is nothing to publish, and the error says so."""
    with pytest.raises(Diverged, match="tiny: no epoch had a finite validation loss"):
        train(with_hyperparameters(REGRESSION, learning_rate=1e30), "1")


@pytest.mark.parametrize("size", [0, 1])
def test_batches_of_one_row(size):
    """Batches of fewer than two rows are refused: they would all be left out, and nothing would be learnt."""
    with pytest.raises(ValueError, match="batch_size must be 2 or more"):
        Hyperparameters(batch_size=size)


def test_batch_norm_trains():
    """A network with batch normalisation learns, also where the rows leave a last batch of one."""
    recipe = dataclasses.replace(
        CLASSIFICATION,
        load=lambda: two_clouds(55),
        architecture=Mlp(inputs=2, hidden=(8,), norm="batch", head=ClassificationHead(classes=2)),
        hyperparameters=Hyperparameters(learning_rate=0.03, batch_size=32, max_epochs=30),
    )
    epochs = []
    trained = train(recipe, "1", epochs.append)
    assert trained.manifest.provenance["rows"]["train"] % 32 == 1
    network, fresh = network_of(trained), build(recipe.architecture)
    assert not torch.equal(network.hidden1.norm.running_mean, fresh.hidden1.norm.running_mean)
    assert network.hidden1.norm.num_batches_tracked == trained.manifest.provenance["epochs"]
    assert min(epoch.validation_loss for epoch in epochs) < math.log(2) / 2  # half the loss of knowing nothing


def test_weight_decay_spares_biases():
    """Weight decay acts on matrices alone: with all of them held at nothing, biases still learn the classes' shares."""
    data = two_clouds(400)
    lopsided = Dataset("synthetic", data.inputs, (np.arange(400) % 4 == 0).astype(np.int64), ("x1", "x2"), ("a", "b"))
    recipe = dataclasses.replace(
        CLASSIFICATION,
        load=lambda: lopsided,
        hyperparameters=Hyperparameters(learning_rate=0.01, weight_decay=100.0, max_epochs=100, patience=100),
    )
    network = network_of(train(recipe, "1"))
    assert network.head.weight.abs().max() < 0.05
    low, high = network.head.bias.tolist()
    assert low - high == pytest.approx(math.log(3), abs=0.5)


# Noise


def test_noise_variance():
    """The noise variance of a line with known noise is found, in squared raw units.

    A variance fitted on 2,000 validation rows has a relative standard error of √(2 / 2000) = 3.2 %. With p = 0 no
    scatter of the draws takes a share of it; the network's own error adds to it, about weights / training rows =
    161 / 1200 ≈ 13 % if it used all its freedom. Allowed are four standard errors and that: −13 % … +26 %.
    """
    recipe = Recipe(
        name="noisy",
        description="A line with noise of 5 m.",
        load=lambda: linear_data(4000, noise=5.0),
        architecture=Mlp(inputs=3, hidden=(32,), dropout=0.0, head=RegressionHead()),
        hyperparameters=Hyperparameters(
            learning_rate=0.01, max_epochs=60, patience=10, validation_fraction=0.5, test_fraction=0.2
        ),
    )
    (found,) = train(recipe, "1").manifest.noise_variance
    assert 0.87 * 25.0 < found < 1.26 * 25.0


def test_variance_head_learns_where_noise_is():
    """A variance head tells rows with little noise from rows with much, and leaves no noise variance to be fitted.

    The noise is 1 m where x₁ < 0 and 10 m elsewhere; each estimate has to lie within a factor of two.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    inputs = rng.uniform(-1, 1, (2000, 1))
    targets = np.where(inputs < 0, 1.0, 10.0) * rng.standard_normal((2000, 1))
    recipe = Recipe(
        name="uneven",
        description="Noise that depends on the row.",
        load=lambda: Dataset("synthetic", inputs, targets, ("x1",), ("y",)),
        architecture=Mlp(inputs=1, hidden=(32,), dropout=0.02, head=RegressionHead(variance=True)),
        hyperparameters=Hyperparameters(learning_rate=0.01, max_epochs=60, patience=15),
    )
    trained = train(recipe, "1")
    assert trained.manifest.noise_variance is None
    with torch.no_grad():
        rows = torch.from_numpy(standardise(np.array([[-0.5], [0.5]]), trained.manifest.inputs))
        outputs = network_of(trained)(rows).double().numpy()
    (target,) = trained.manifest.targets
    quiet, loud = np.sqrt(evaluation.variance_of(outputs[:, 1])) * target.scale
    assert 0.5 < quiet < 2.0
    assert 5.0 < loud < 20.0


def test_no_noise_variance_for_classes(clouds):
    """A classification has no noise variance: its probabilities say it."""
    assert clouds.manifest.noise_variance is None
