"""Versions as they are served: verified, compiled, ready to answer. Knows nothing of requests."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from models.architecture import RegressionHead
from models.calibration import EPSILON
from models.features import Float32, Float64, Standard
from models.manifest import Manifest
from models.mixed import standard_of
from models.repository import Repository
from service.engine.evaluate import evaluate
from service.engine.kernel import binaries
from service.engine.masks import STREAM_VERSION
from service.engine.moments import Moments
from service.engine.plan import Cut, Network
from service.engine.query import Committee, Query
from service.engine.uncertainty import RegressionDraws, Widths, regression_draws
from service.engine.verify import verified_network
from service.memory import trim

# What the bits of an answer depend on in this process.
_BUILD = (torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine())


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that passed verification, ready to answer: a single network, or the members of an ensemble."""

    manifest: Manifest
    members: tuple[Network, ...]

    @property
    def network(self) -> Network:
        """The only network, or the first member: members differ in their weights alone."""
        return self.members[0]

    @cached_property
    def fingerprint(self) -> str:
        """What an answer's bits depend on besides the request: the model, and this kind of processor and build."""
        plan, device = self.network.row_plan, self.network.device
        named = (self.manifest.name, self.manifest.version, self.manifest.digest)
        processor = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return ":".join(map(str, (*named, STREAM_VERSION, plan.kind, plan.rows, processor, binaries.name(), *_BUILD)))

    @cached_property
    def full(self) -> tuple[Cut, ...]:
        """Each member's full network as a cut: all of it is shared."""
        return tuple(network.cut(0.0) for network in self.members)

    @cached_property
    def standard(self) -> Standard:
        """How raw rows are read, and what the network sees of them."""
        return standard_of(self.manifest.inputs, self.manifest.image)

    def warm_up(self) -> None:
        """Makes now what a first request would otherwise wait for."""
        row = np.zeros((1, self.network.inputs), np.float32)
        for network in self.members:
            evaluate(network, Query(row))
            if network.cut(None).after:
                evaluate(network, Query(row, Committee(0, samples=2)))
        _ = self.fingerprint, self.full, self.standard, self._targets

    def moments(self, what_if: float | None) -> Moments:
        """What the (first) network's moments are worked out with. Raises NotCovered."""
        return self._trained_moments if what_if is None else Moments(self.network, what_if)

    @cached_property
    def _trained_moments(self) -> Moments:
        return Moments(self.network)

    def regression_draws(self, outputs: Float32) -> RegressionDraws:
        """Outputs [samples, rows, width] as draws in raw units."""
        mean, scale, noise, variance_head = self._targets
        return regression_draws(outputs, mean, scale, variance_head, noise, self.temperature)

    @cached_property
    def temperature(self) -> float:
        """What logits are divided by, or a variance head's variances multiplied; 1 where nothing was fitted."""
        return self.manifest.calibration.temperature or 1.0

    def widths(self, method: str, samples: int, p: float | None, level: float) -> Widths | None:
        """How wide a conformal interval of a regression is; None where no calibration holds for such a committee."""
        quantiles = self._conformal_quantiles(method, samples, p, level)
        return None if quantiles is None else Widths(np.array(quantiles), self._epsilon)

    def threshold(self, method: str, samples: int, p: float | None, level: float) -> float | None:
        """How far from 1 the probability of a class in a prediction set may be; None where no calibration holds."""
        quantiles = self._conformal_quantiles(method, samples, p, level)
        return None if quantiles is None else quantiles[0]

    def _conformal_quantiles(self, method: str, samples: int, p: float | None, level: float) -> list[float] | None:
        conformal = self.manifest.calibration.holding_for(method, samples, p)
        if conformal is None:
            return None
        return [math.inf if quantile is None else quantile for quantile in conformal.at(level)]

    @cached_property
    def _epsilon(self) -> Float64:
        return EPSILON * self._targets[1]

    @cached_property
    def _targets(self) -> tuple[Float64, Float64, Float64 | None, bool]:
        """Mean, scale and noise variance of each target, and whether the network says how noisy it is."""
        head, noise = self.manifest.architecture.head, self.manifest.noise_variance
        return (
            np.array([target.mean for target in self.manifest.targets]),
            np.array([target.scale for target in self.manifest.targets]),
            None if noise is None else np.array(noise),
            isinstance(head, RegressionHead) and head.variance,
        )


def newest_ready(versions: Mapping[str, ServedModel | None]) -> ServedModel | None:
    """The version that is served by default; None while there is none."""
    return next((model for model in reversed(list(versions.values())) if model is not None), None)


class Loader:
    """Makes versions of a store ready to answer, on a device.

    What was made before worker processes were forked is shared by all of them, unless the store has another by now; a
    store that can't be read any more changes nothing.
    """

    def __init__(self, repository: Repository, device: str = "cpu") -> None:
        self._repository, self._device = repository, device
        self._made: dict[tuple[str, str], ServedModel] = {}

    def prepare(self, keep: int = 0) -> None:
        """Makes what is in the store now, for processes to be forked: `keep` versions of each model, 0: all of them.

        What does not pass verification is left out: who asks for it is told why.
        """
        self._made = {}
        for name, kept in self._repository.look().items():
            made = 0
            for version in reversed(list(kept.versions)):
                if not keep or made < keep or version == kept.pinned:
                    with suppress(Exception):
                        self._made[name, version] = self._load(name, version)
                        made += 1

    def __call__(self, name: str, version: str) -> ServedModel:
        """A version, verified, compiled and warm. Raises RepositoryError where its files are not as they must be."""
        made = self._made.get((name, version))
        if made is not None and (self._repository.describes(made.manifest) or not self._repository.has(name, version)):
            return made
        return self._load(name, version)

    def _load(self, name: str, version: str) -> ServedModel:
        model = self._repository.load(name, version)
        architecture = model.manifest.architecture
        members = tuple(verified_network(architecture, tensors, self._device) for tensors in model.networks)
        made = ServedModel(model.manifest, members)
        made.warm_up()
        trim()  # loading took twice the weights and more for a while, which glibc would keep
        return made
