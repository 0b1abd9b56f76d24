"""The models that ship: each is what its recipe gives, and as good as its manifest says."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models import recipes as package
from models.data import describe_inputs, describe_outputs, split
from models.evaluation import monte_carlo
from models.mixed import standardise
from models.networks import build
from models.recipes import recipes
from models.repository import Repository

ROOT = Path(__file__).resolve().parents[2]
STORE = Repository(ROOT / "models" / "store")
NAMES = ("breast-cancer", "diabetes", "digits", "digits-ensemble", "mnist-ff")
CLASSIFIERS = ("breast-cancer", "digits", "digits-ensemble")


def held_out(name):
    """The rows a model has never seen, as its recipe and its manifest's seed say: numbers, standardised, targets."""
    data, manifest = recipes()[name].load(), STORE.load(name).manifest
    how = manifest.provenance["hyperparameters"]
    test = split(len(data.inputs), how["seed"], how["validation_fraction"], how["test_fraction"]).test
    return torch.from_numpy(standardise(data.inputs[test], manifest.inputs)), data.targets[test]


def networks_of(name):
    """The shipped network in eval mode, or an ensemble's members."""
    model = STORE.load(name)
    networks = [build(model.manifest.architecture) for _ in model.networks]
    for network, tensors in zip(networks, model.networks, strict=True):
        network.load_state_dict(dict(tensors))
    return [network.eval() for network in networks]


def network_of(name):
    """The shipped network, or the first member, in eval mode."""
    return networks_of(name)[0]


def full_network(name, rows):
    """The full network's outputs [rows, width]; an ensemble's are logits of its members' mean probabilities."""
    with torch.no_grad():
        outputs = [network(rows).double().numpy() for network in networks_of(name)]
    return outputs[0] if len(outputs) == 1 else np.log(softmax(outputs, axis=-1).mean(axis=0))


def test_every_recipe_ships():
    """The store holds a model for every recipe and no other."""
    assert STORE.names() == tuple(recipes()) == NAMES


def test_a_recipe_is_named_after_its_file():
    """A recipe's name is its file's, so that neither hides another of the same name."""
    files = {file.stem.replace("_", "-") for file in Path(package.__file__).parent.glob("*.py")} - {"--init--"}
    assert set(recipes()) == files


@pytest.mark.parametrize("name", NAMES)
def test_manifest_is_its_recipe(name):
    """A shipped manifest has its recipe's network, words and hyperparameters."""
    recipe, manifest = recipes()[name], STORE.load(name).manifest
    assert manifest.architecture == recipe.architecture
    assert manifest.description == recipe.description
    assert manifest.provenance["recipe"] == recipe.name == name
    assert manifest.provenance["hyperparameters"] == dataclasses.asdict(recipe.hyperparameters)


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_those_of_the_training_rows(name):
    """A shipped model's inputs and outputs are described from its training rows, and from them alone."""
    data, manifest = recipes()[name].load(), STORE.load(name).manifest
    how = manifest.provenance["hyperparameters"]
    parts = split(len(data.inputs), how["seed"], how["validation_fraction"], how["test_fraction"])
    assert manifest.inputs == describe_inputs(data, parts.train)
    assert manifest.outputs == describe_outputs(data, parts.train)
    assert manifest.provenance["rows"] == {part: len(getattr(parts, part)) for part in ("train", "validation", "test")}


@pytest.mark.parametrize(("name", "least"), [("digits", 0.97), ("breast-cancer", 0.95), ("mnist-ff", 0.95)])
def test_recorded_accuracy(name, least):
    """A classifier is as accurate on held-out rows as it has to be, as committee and as full network."""
    figures = STORE.load(name).manifest.metrics
    assert figures["test"]["accuracy"] >= least
    assert figures["test"]["accuracy_full_network"] >= least
    plain = next(iter(figures["baseline"].values()))
    assert figures["test"]["accuracy"] >= plain["accuracy"]


def test_recorded_error():
    """The regression is no worse on held-out rows than ridge regression."""
    figures = STORE.load("diabetes").manifest.metrics
    assert figures["test"]["rmse"] <= figures["baseline"]["ridge"]["rmse"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_accuracy_worked_out_again(name):
    """A classifier's recorded figures are those of its shipped weights, worked out here from its held-out rows."""
    rows, targets = held_out(name)
    manifest = STORE.load(name).manifest
    recorded = manifest.metrics["test"]
    logits = full_network(name, rows) / manifest.calibration.temperature
    chances = softmax(logits, axis=1)[np.arange(len(targets)), targets]
    assert (logits.argmax(axis=1) == targets).mean() == pytest.approx(recorded["accuracy_full_network"], abs=1e-9)
    assert np.log(chances).mean() == pytest.approx(recorded["log_likelihood_full_network"], rel=1e-3)

    draws = np.concatenate([monte_carlo(network, rows) for network in networks_of(name)])
    committee = softmax(draws, axis=-1).mean(axis=0)
    one_row = 1 / len(targets)  # other hardware may draw a row on the border to the other side
    assert (committee.argmax(axis=1) == targets).mean() == pytest.approx(recorded["accuracy"], abs=1.5 * one_row)


def test_accuracy_of_the_stack_worked_out_again():
    """The stack's full network is as accurate as recorded; its committee would take a minute."""
    rows, targets = held_out("mnist-ff")
    recorded = STORE.load("mnist-ff").manifest.metrics["test"]
    accuracy = (full_network("mnist-ff", rows).argmax(axis=1) == targets).mean()
    assert accuracy == pytest.approx(recorded["accuracy_full_network"], abs=1.5 / len(targets))


def test_error_worked_out_again():
    """The regression's recorded errors are those of its shipped weights, worked out here from its held-out rows."""
    rows, targets = held_out("diabetes")
    manifest = STORE.load("diabetes").manifest
    (target,) = manifest.targets
    recorded = manifest.metrics["test"]

    def error(standard):
        return math.sqrt(((standard[:, :1] * target.scale + target.mean - targets) ** 2).mean())

    assert error(full_network("diabetes", rows)) == pytest.approx(recorded["rmse_full_network"], rel=1e-4)
    committee = monte_carlo(network_of("diabetes"), rows).mean(axis=0)
    assert error(committee) == pytest.approx(recorded["rmse"], rel=1e-3)


def test_ridge_worked_out_again():
    """The error the regression is compared with is that of ridge regression on the same rows."""
    data, manifest = recipes()["diabetes"].load(), STORE.load("diabetes").manifest
    parts = split(len(data.inputs), manifest.provenance["hyperparameters"]["seed"])
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 3, 25)))
    ridge.fit(data.inputs[parts.train], data.numbers[parts.train, 0])
    errors = data.numbers[parts.test, 0] - ridge.predict(data.inputs[parts.test])
    recorded = manifest.metrics["baseline"]["ridge"]["rmse"]
    assert math.sqrt((errors**2).mean()) == pytest.approx(recorded, rel=1e-6)


@pytest.mark.slow
def test_training_again_gives_the_same_digest(tmp_path):
    """A recipe that ships gives the same digest in two processes with different numbers of threads."""
    digests = set()
    for threads in ("1", "2"):
        store = tmp_path / threads
        subprocess.run(
            [sys.executable, "-m", "models", "train", "breast-cancer", "--store", str(store)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": threads},
            check=True,
            capture_output=True,
        )
        manifest = json.loads((store / "breast-cancer" / "1" / "manifest.json").read_bytes())
        digests.add(manifest["digest"])
    assert len(digests) == 1
