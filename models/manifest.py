"""The JSON beside the weights: everything that is known about one trained version.

Also the digest: a name for exactly those facts that decide what the model answers. Reads and writes no files.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.architecture import Architecture, ClassificationHead, RegressionHead
from models.calibration import Calibration
from models.features import ClassLabel, Feature, Target
from models.layers import dropout_sites

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
DEFAULT_SAMPLES = 100

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Task = Literal["regression", "classification"]
Quantity = Literal["predictive_std", "epistemic_std", "predictive_entropy", "mutual_information"]


class Distribution(BaseModel):
    """How values are spread: the shares of them up to the first edge, from there to the second, …, above the last."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edges: tuple[float, ...]
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _parts_agree(self) -> Distribution:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("the edges must rise")
        if len(self.shares) != len(self.edges) + 1 or abs(sum(self.shares) - 1.0) > 1e-6:
            raise ValueError("there must be a share more than edges, and all of them add up to 1")
        return self


class ValidationUncertainty(BaseModel):
    """How uncertain committees of `samples` are about the validation rows, each row asked with a committee of its own.

    Standard deviations over the target's scale, for each row and output; entropies in nats, for each row. `values` is
    how many there are of each quantity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    samples: Annotated[int, Field(ge=2)]
    values: Annotated[int, Field(ge=1)]
    distributions: dict[Quantity, Distribution]


class Manifest(BaseModel):
    """One version of one model.

    `noise_variance` is the aleatoric variance of each output in squared raw units, fitted on validation rows, for
    regressions without a variance head. `calibration` is what else was fitted on rows that were held out. `metrics` are
    held-out figures, `baseline` among them; `provenance` says how, on what and with which seed weights were trained.
    `uncertainty` is what the service compares that of its traffic with; None where it is not known. Raises
    ValidationError where the parts disagree.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    version: Name
    task: Task
    digest: Digest
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    description: str = ""
    inputs: tuple[Feature, ...]
    outputs: tuple[Target, ...] | tuple[ClassLabel, ...]
    architecture: Architecture
    noise_variance: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    default_samples: Annotated[int, Field(ge=1)] = DEFAULT_SAMPLES
    metrics: dict[str, Any] = {}
    calibration: Calibration = Calibration()
    provenance: dict[str, Any] = {}
    uncertainty: ValidationUncertainty | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Manifest:
        if len(self.inputs) != self.architecture.inputs:
            raise ValueError(f"{len(self.inputs)} inputs for a network of {self.architecture.inputs}")
        for names in ([column.name for column in self.inputs], [column.name for column in self.outputs]):
            if len(set(names)) != len(names):
                raise ValueError("two columns have the same name")
        kind = Target if self.task == "regression" else ClassLabel
        head = self.architecture.head
        if head.kind != self.task or not all(isinstance(output, kind) for output in self.outputs):
            raise ValueError(f"the head and the outputs must be those of a {self.task}")
        expected = head.outputs if isinstance(head, RegressionHead) else head.classes
        if len(self.outputs) != expected:
            raise ValueError(f"{len(self.outputs)} outputs for a head of {expected}")
        if self.noise_variance is not None:
            if isinstance(head, ClassificationHead) or head.variance:
                raise ValueError("a noise variance is for regressions without a variance head")
            if len(self.noise_variance) != expected:
                raise ValueError(f"{len(self.noise_variance)} noise variances for {expected} outputs")
        self._check_calibration(head)
        return self

    def _check_calibration(self, head: RegressionHead | ClassificationHead) -> None:
        temperature, conformal = self.calibration.temperature, self.calibration.conformal
        if temperature is not None and isinstance(head, RegressionHead) and not head.variance:
            raise ValueError("a temperature is for classifications and variance heads")
        if conformal is None:
            return
        sites = tuple(site.p for site in dropout_sites(self.architecture.layers()))
        if conformal.dropout != sites:
            raise ValueError("conformal quantiles are for another dropout than the architecture's")
        lists = head.outputs if isinstance(head, RegressionHead) else 1
        if len(conformal.quantiles) != lists:
            raise ValueError(f"{len(conformal.quantiles)} lists of conformal quantiles, expected {lists}")

    @property
    def targets(self) -> tuple[Target, ...]:
        """The outputs of a regression."""
        return tuple(output for output in self.outputs if isinstance(output, Target))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of a classification, or the names of a regression's outputs, in order."""
        return tuple(output.name for output in self.outputs)

    def computed_digest(self) -> str:
        """The digest these contents call for: SHA-256 over the weights' SHA-256 and every part that affects answers."""
        return answer_digest(self.model_dump(mode="json"))


# What a model answers depends on these and on nothing else: a new name, metric or note keeps the digest.
ANSWERING_PARTS = (
    "task",
    "weights_sha256",
    "inputs",
    "outputs",
    "architecture",
    "noise_variance",
    "default_samples",
    "calibration",
)


def answer_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON (sorted keys, no spaces, shortest floats) of the answering parts."""
    parts = {part: manifest[part] for part in ANSWERING_PARTS}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def seal(
    *,
    name: str,
    version: str,
    task: Task,
    weights_sha256: str,
    inputs: tuple[Feature, ...],
    outputs: tuple[Target, ...] | tuple[ClassLabel, ...],
    architecture: Architecture,
    noise_variance: tuple[float, ...] | None = None,
    default_samples: int = DEFAULT_SAMPLES,
    description: str = "",
    metrics: dict[str, Any] | None = None,
    calibration: Calibration | None = None,
    provenance: dict[str, Any] | None = None,
    uncertainty: ValidationUncertainty | None = None,
) -> Manifest:
    """A manifest with its digest computed: the one way to make a new one."""
    draft = Manifest(
        name=name,
        version=version,
        task=task,
        digest="sha256:" + "0" * 64,
        weights_sha256=weights_sha256,
        description=description,
        inputs=inputs,
        outputs=outputs,
        architecture=architecture,
        noise_variance=noise_variance,
        default_samples=default_samples,
        metrics=metrics or {},
        calibration=calibration or Calibration(),
        provenance=provenance or {},
        uncertainty=uncertainty,
    )
    return draft.model_copy(update={"digest": draft.computed_digest()})
