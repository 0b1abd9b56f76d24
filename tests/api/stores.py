"""A store of tiny models, one for each property that the shipped ones lack."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.calibration import Calibration, Conformal
from models.features import ClassLabel, Feature, Target
from models.manifest import Manifest, Member, seal
from models.members import joined
from models.repository import Repository, serialise
from tests.networks import module_of

INPUTS = tuple(
    Feature(name=name, range=(-3.0, 3.0), mean=mean, scale=scale)
    for name, mean, scale in (("first", 0.0, 1.0), ("second", 1.0, 2.0), ("third", -5.0, 0.5))
)
TARGETS = (Target(name="up", units="m", mean=10.0, scale=3.0), Target(name="down", mean=-1000.0, scale=200.0))
SURE = Calibration(
    temperature=2.5,
    conformal=Conformal(
        samples=20, dropout=(0.5,), rows=15, levels=(0.5, 0.9, 0.95), quantiles=((0.7, 1.75, None), (0.5, 3.0, None))
    ),
)
SURE_OF_CLASSES = Calibration(
    temperature=0.5,
    conformal=Conformal(samples=20, dropout=(0.5,), rows=15, levels=(0.1, 0.9, 0.95), quantiles=((0.0, 0.8, None),)),
)
# For method ensemble alone with so many samples.
SURE_OF_BOTH = SURE_OF_CLASSES.model_copy(
    update={
        "conformal_ensemble": Conformal(
            method="ensemble", samples=30, dropout=(0.5,), rows=15, levels=(0.1, 0.9), quantiles=((0.0, 0.6),)
        )
    }
)
CLASSES = (ClassLabel(name="red"), ClassLabel(name="green"), ClassLabel(name="blue"))


def publish(store: Path, name: str, version: str = "1", *, weight: float | None = None, **options: Any) -> Path:
    """Publishes a version, see `version_of`; its folder."""
    return Repository(store).publish(*version_of(name, version, weight=weight, **options))


def version_of(name: str, version: str = "1", *, weight: float | None = None, **options: Any) -> tuple[Manifest, bytes]:
    """A network of three inputs with random weights (or all of them `weight`): its manifest and its weights file.

    `options` are those of the architecture, and `noise_variance`, `default_samples` and `calibration` of the manifest.
    With `shares` it is an ensemble, whose members have these weights.
    """
    manifest = {key: options.pop(key) for key in ("noise_variance", "default_samples", "calibration") if key in options}
    members = tuple(Member(weight=share) for share in options.pop("shares", ()))
    options.setdefault("head", RegressionHead(outputs=len(TARGETS)))
    architecture = Mlp(inputs=len(INPUTS), **{"hidden": (16,), "dropout": 0.5, **options})
    regression = isinstance(architecture.head, RegressionHead)
    states = [module_of(architecture, seed=int(version) + n).state_dict() for n in range(len(members) or 1)]
    tensors = joined(states) if members else states[0]
    if weight is not None:
        tensors = {key: torch.full_like(tensor, weight) for key, tensor in tensors.items()}
    weights = serialise(tensors)
    sealed = seal(
        name=name,
        version=version,
        task="regression" if regression else "classification",
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        inputs=INPUTS,
        outputs=TARGETS[: architecture.head.outputs] if regression else CLASSES,
        architecture=architecture,
        members=members,
        **manifest,
    )
    return sealed, weights


def corrupt(folder: Path) -> None:
    """Changes one bit of a version's weights."""
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def publish_all(store: Path) -> None:
    """Publishes every tiny model."""
    classes = ClassificationHead(classes=len(CLASSES))
    publish(store, "silent", default_samples=7)  # no variance head, no known noise
    publish(store, "noisy", noise_variance=(0.25, 900.0))
    publish(store, "headed", head=RegressionHead(outputs=2, variance=True))
    publish(store, "colours", head=classes)
    publish(store, "undecided", head=classes, weight=0.0)  # every class has the same logit, exactly
    publish(store, "trio", head=RegressionHead(outputs=2, variance=True), shares=(0.4, 0.3, 0.3))
    publish(store, "rainbow", head=classes, shares=(0.2, 0.7, 0.1))
    publish(store, "residual", hidden=(16, 16), residual=True)
    publish(store, "calibrated", head=RegressionHead(outputs=2, variance=True), default_samples=20, calibration=SURE)
    publish(store, "calibrated-colours", head=classes, default_samples=20, calibration=SURE_OF_CLASSES)
    publish(store, "calibrated-rainbow", head=classes, shares=(0.2, 0.7, 0.1), calibration=SURE_OF_BOTH)
    publish(store, "dry", dropout=0.0)
    publish(store, "huge", weight=1e19)
    publish(store, "huge-colours", weight=1e19, head=classes)
    for version in ("1", "2", "10"):
        publish(store, "versioned", version)
    corrupt(store / "versioned" / "10")
    corrupt(publish(store, "broken"))
