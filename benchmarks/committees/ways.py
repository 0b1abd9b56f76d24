"""Four ways of asking the same trained networks, and what each says. Knows nothing of scores or pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.features import Float32, Float64
from models.mixed import standardise
from models.repository import Model, Repository
from models.training import Recipe, train
from service.engine.ensemble import Ensemble
from service.engine.plan import Network
from service.engine.query import Committee, Query
from service.engine.verify import verified_network
from service.engine.workspace import Workspace

STORE = Repository(Path("build/committees"))
SAMPLES = 100
WAYS = ("full network", "committee", "ensemble", "ensemble of committees")


def trained(recipe: Recipe, seed: int) -> Model:
    """An ensemble on the split that a seed makes; trained unless an earlier run has."""
    version = str(seed)
    if version not in STORE.versions(recipe.name):
        made = train(replace(recipe, hyperparameters=replace(recipe.hyperparameters, seed=seed)), version)
        STORE.publish(made.manifest, made.weights)
    return STORE.load(recipe.name, version)


class Asked:
    """An ensemble, asked in each of WAYS: its first member alone or all, full or thinned."""

    def __init__(self, model: Model) -> None:
        self._inputs = model.manifest.inputs
        self._members = [verified_network(model.manifest.architecture, tensors) for tensors in model.networks]

    def outputs(self, inputs: Float64) -> Iterator[tuple[str, Float32]]:
        """Every way, and the outputs [samples, rows, width] that it has for inputs in raw units."""
        rows, first, everyone = standardise(inputs, self._inputs), self._members[:1], self._members
        for way, networks, committee in zip(
            WAYS,
            (first, first, everyone, everyone),
            (None, Committee(1, SAMPLES), None, Committee(1, SAMPLES)),
            strict=True,
        ):
            yield way, _evaluated(networks, Query(rows, committee))


def _evaluated(networks: Sequence[Network], query: Query) -> Float32:
    begun, workspace = Ensemble(networks, [query]), Workspace()
    for stage in begun.stages():
        for piece in stage:
            piece(workspace)
    return np.ascontiguousarray(begun.of(0))
