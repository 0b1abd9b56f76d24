"""Versions as they are served: verified, compiled, ready to answer. Knows nothing of requests."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from models.architecture import RegressionHead
from models.features import Float32, Float64, Standard
from models.manifest import Manifest
from models.repository import Repository, RepositoryError
from service.engine.evaluate import use_one_thread
from service.engine.masks import STREAM_VERSION
from service.engine.plan import Cut, Network, RowPlan, compile_network
from service.engine.uncertainty import RegressionDraws, regression_draws
from service.engine.verify import with_verified_plan

logger = logging.getLogger(__name__)

# What the bits of an answer depend on in this process.
_BUILD = (torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine())


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that passed verification, ready to answer; `dense` pins one way of evaluation for all requests."""

    manifest: Manifest
    network: Network
    dense: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """What an answer's bits depend on besides the request: the model, and this kind of processor and build."""
        plan, device = self.network.row_plan, self.network.device
        named = (self.manifest.name, self.manifest.version, self.manifest.digest)
        ways = (plan.kind, plan.rows, self.network.may_thin, self.dense)
        return ":".join(map(str, (*named, STREAM_VERSION, *ways, device.type, *_BUILD)))

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
        return regression_draws(outputs, mean, scale, variance_head, noise)

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


def load(repository: Repository, name: str, version: str, *, dense: bool, device: str = "cpu") -> ServedModel | None:
    """A version, verified and compiled; None, and a line in the log, where its files are not as they must be.

    On whichever thread: it is set up as those that will evaluate are.
    """
    use_one_thread()
    try:
        model = repository.load(name, version)
    except RepositoryError as error:
        logger.error("not served: %s", error)  # noqa: TRY400 - the operator needs the finding, not our stack
        return None
    network = compile_network(model.manifest.architecture, model.tensors, RowPlan("aligned", 16), device)
    return ServedModel(model.manifest, with_verified_plan(network), dense)
