"""Ensembles in the store: members in one file, weights that make targets likeliest, training that repeats itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize

from models.manifest import Manifest
from models.members import expected, joined, parted
from models.recipes import recipes
from models.repository import CorruptVersion, Repository
from models.stacking import stacking_weights
from models.training import Recipe, train
from service.settings import SHIPPED_STORE
from tests.networks import Mlp, RegressionHead, module_of

SPEC = Mlp(inputs=3, hidden=(4,), head=RegressionHead())


def test_members_come_back_as_they_were() -> None:
    """Joined and parted, each member has its own tensors by their plain names; a lone network keeps its names."""
    states = [module_of(SPEC, seed).state_dict() for seed in range(3)]
    together = joined(states)
    assert together.keys() == expected(SPEC, 3).keys()
    for state, again in zip(states, parted(together, SPEC, 3), strict=True):
        assert again.keys() == state.keys()
        assert all(torch.equal(again[name], state[name]) for name in state)
    assert expected(SPEC, 0).keys() == states[0].keys() == parted(states[0], SPEC, 0)[0].keys()


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), members=st.integers(2, 4), rows=st.integers(1, 40))
def test_stacking_finds_the_likeliest_weights(seed: int, members: int, rows: int) -> None:
    """No weights have a higher likelihood than those found, to what rounding costs: SciPy looks for some."""
    p = np.random.Generator(np.random.PCG64(seed)).uniform(0.01, 1, (members, rows))
    found = stacking_weights(p)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()
    best = minimize(
        lambda w: -np.log(np.maximum(w @ p, 1e-12)).mean(),
        np.full(members, 1 / members),
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    assert np.log(found @ p).mean() >= -best.fun - 1e-3


def test_members_that_say_the_same_count_the_same() -> None:
    """Without a reason to prefer one, weights are equal; a member that is always right takes all."""
    assert stacking_weights(np.full((4, 9), 0.3)).tolist() == [0.25] * 4
    assert stacking_weights(np.array([[1.0] * 5, [0.2] * 5])).tolist() == [1.0, 0.0]


@pytest.fixture(scope="module")
def quick() -> Recipe:
    """An ensemble that trains in a moment."""
    whole = recipes()["breast-cancer"]
    spec = whole.architecture.model_copy(update={"hidden": (8,), "dropout": (0.2,)})
    return replace(
        whole,
        architecture=spec,
        hyperparameters=replace(whole.hyperparameters, max_epochs=2),
        members=3,
        bootstrap=True,
    )


def test_an_ensemble_trains_its_members_apart_and_again_alike(quick: Recipe, tmp_path) -> None:
    """Members differ, each from its own seed and resample; training again gives the same digest; publishing loads."""
    first, again = train(quick, "1"), train(quick, "1")
    assert first.manifest.digest == again.manifest.digest
    assert sum(member.weight for member in first.manifest.members) == pytest.approx(1.0)
    assert first.manifest.provenance["members"] == 3
    assert len(first.manifest.provenance["epochs"]) == 3
    store = Repository(tmp_path)
    store.publish(first.manifest, first.weights)
    networks = store.load(quick.name).networks
    assert len({network["head.bias"].sum().item() for network in networks}) == 3
    single = train(replace(quick, members=0, bootstrap=False), "1")
    assert "members" not in single.manifest.model_dump()
    without = train(replace(quick, bootstrap=False), "1")
    store.publish(single.manifest.model_copy(update={"name": "single"}), single.weights)
    store.publish(without.manifest.model_copy(update={"name": "without"}), without.weights)
    alone, among = store.load("single").networks[0], store.load("without").networks[0]
    assert all(torch.equal(alone[name], among[name]) for name in alone)


@pytest.mark.parametrize("members", [[{"weight": 1.0}], [{"weight": 0.5}, {"weight": 0.4}], [{"weight": -1}] * 2])
def test_members_that_do_not_fit_are_refused(members: list[dict[str, float]]) -> None:
    """One member is no ensemble, and weights are shares of 1."""
    shipped = Repository(SHIPPED_STORE).load("digits-ensemble").manifest
    with pytest.raises(ValidationError):
        Manifest.model_validate({**shipped.model_dump(), "members": members})


def test_a_missing_member_is_corrupt(tmp_path, quick: Recipe) -> None:
    """A file with fewer members than the manifest lists is not handed out."""
    trained = train(replace(quick, members=2), "1")
    manifest = trained.manifest
    more = manifest.model_copy(update={"members": (manifest.members[0],) * 3})
    with pytest.raises(CorruptVersion):
        Repository(tmp_path).publish(more, trained.weights)


def test_a_recipe_has_no_single_member(quick: Recipe) -> None:
    """An ensemble of one, and resamples without an ensemble, are mistakes."""
    for wrong in ({"members": 1, "bootstrap": False}, {"members": 0, "bootstrap": True}):
        with pytest.raises(ValueError, match="ensemble"):
            replace(quick, **wrong)
