"""The models that are measured, in a store of their own; and rows to ask them about.

S is 13 → 50 → 50 → 1 with p = 0.1, W is 64 → 512 → 512 → 512 → 10 with p = 0.1, W5 is W with p = 0.5, and N, narrow, is
64 → 32 → 1. Their weights are as PyTorch starts them, where half of the units are zero after a ReLU: what was learnt
matters to how long an answer takes in so far as it changes that half, mostly downwards.
Inputs and outputs are in standard units already, so that whoever runs the bare network must come to the same answers.
Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.features import ClassLabel, Feature, Target
from models.manifest import seal
from models.networks import build
from models.repository import Repository, serialise

SEED = 0
NOISE_VARIANCE = 0.25  # of S, as training would have fitted it
POOL = 16  # different sets of rows, so that no two requests in a row are about the same ones

_S = Mlp(inputs=13, hidden=(50, 50), dropout=(0.1, 0.1), head=RegressionHead(outputs=1))
_W = Mlp(inputs=64, hidden=(512, 512, 512), dropout=(0.1,) * 3, head=ClassificationHead(classes=10))
_W5 = _W.model_copy(update={"dropout": (0.5,) * 3})
_N = Mlp(inputs=64, hidden=(32,), dropout=(0.1,), head=RegressionHead(outputs=1))
SPECS = {"S": _S, "W": _W, "W5": _W5, "N": _N}


def fill(root: Path) -> None:
    """Publishes every model into an empty directory."""
    repository = Repository(root)
    for name, spec in SPECS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            weights = serialise(build(spec).state_dict())
        regression = isinstance(spec.head, RegressionHead)
        manifest = seal(
            name=name,
            version="1",
            task=spec.head.kind,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            description="For measuring speed; it has learnt nothing.",
            inputs=tuple(Feature(name=f"x{i}", range=(-5.0, 5.0)) for i in range(spec.inputs)),
            outputs=(Target(name="y", mean=0.0, scale=1.0),)
            if regression
            else tuple(ClassLabel(name=str(i)) for i in range(spec.head.width)),
            architecture=spec,
            noise_variance=(NOISE_VARIANCE,) if regression else None,
            provenance={"torch": torch.__version__, "seed": SEED},
        )
        repository.publish(manifest, weights)


def pool(model: str, rows: int) -> list[list[list[float]]]:
    """POOL different inputs of `rows` rows for a model, each number of four decimals."""
    draws = np.random.Generator(np.random.PCG64(SEED)).standard_normal((POOL, rows, SPECS[model].inputs))
    inputs: list[list[list[float]]] = draws.round(4).tolist()
    return inputs
