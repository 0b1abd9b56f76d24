"""Versions as they are served: verified, compiled, ready to answer. Knows nothing of requests."""

from __future__ import annotations

import ctypes
import logging
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
from models.repository import Repository, RepositoryError
from service.engine.masks import STREAM_VERSION
from service.engine.plan import Cut, Network
from service.engine.uncertainty import RegressionDraws, Widths, regression_draws
from service.engine.verify import verified_network

logger = logging.getLogger(__name__)

# What the bits of an answer depend on in this process.
_BUILD = (torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine())


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that passed verification, ready to answer."""

    manifest: Manifest
    network: Network

    @cached_property
    def fingerprint(self) -> str:
        """What an answer's bits depend on besides the request: the model, and this kind of processor and build."""
        plan, device = self.network.row_plan, self.network.device
        named = (self.manifest.name, self.manifest.version, self.manifest.digest)
        return ":".join(map(str, (*named, STREAM_VERSION, plan.kind, plan.rows, device.type, *_BUILD)))

    @cached_property
    def full(self) -> Cut:
        """The full network as a cut: all of it is shared."""
        return self.network.cut(0.0)

    @cached_property
    def standard(self) -> Standard:
        """Raw rows to standard units."""
        return Standard(self.manifest.inputs)

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
        conformal = self.manifest.calibration.conformal
        if conformal is None or not conformal.holds_for(method, samples, p):
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

    What was made before worker processes were forked is shared by all of them, as long as the store still has it.
    """

    def __init__(self, repository: Repository, device: str = "cpu") -> None:
        self._repository, self._device = repository, device
        self._made: dict[tuple[str, str], ServedModel] = {}

    def prepare(self) -> None:
        """Makes everything that is in the store now, for processes to be forked."""
        self._made = {}
        for name in self._repository.names():
            for version in self._repository.versions(name):
                if (model := self._load(name, version)) is not None:
                    self._made[name, version] = model

    def __call__(self, name: str, version: str) -> ServedModel | None:
        """A version, verified and compiled; None, and a line in the log, where its files are not as they must be."""
        made = self._made.get((name, version))
        if made is not None and self._repository.describes(made.manifest):
            return made
        return self._load(name, version)

    def _load(self, name: str, version: str) -> ServedModel | None:
        try:
            model = self._repository.load(name, version)
        except RepositoryError as error:
            logger.error("not served: %s", error)  # noqa: TRY400 - the operator needs the finding, not our stack
            return None
        network = verified_network(model.manifest.architecture, model.tensors, self._device)
        made = ServedModel(model.manifest, network)
        _give_memory_back()
        return made


def _give_memory_back() -> None:
    """Returns to the system what loading took for a while: twice the weights and more, which glibc would keep."""
    with suppress(AttributeError, OSError):  # another C library has no such function
        ctypes.CDLL(None).malloc_trim(0)
