"""The JSON beside the weights: everything that is known about one trained version.

Also the digest: a name for exactly those facts that decide what the model answers. Reads and writes no files.
"""

from __future__ import annotations

import hashlib
import json
import operator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.architecture import Architecture, ClassificationHead, FfStack, RegressionHead
from models.calibration import Calibration
from models.features import ClassLabel, Input, Target
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


class Member(BaseModel):
    """One of an ensemble's independently trained networks; `weight` is its part in a weighted vote."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: Annotated[float, Field(ge=0, le=1)]


class Manifest(BaseModel):
    """One version of one model.

    An ensemble's `members` share the architecture; a version without any is a single network.

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
    inputs: tuple[Input, ...]
    outputs: tuple[Target, ...] | tuple[ClassLabel, ...]
    architecture: Architecture
    members: Annotated[tuple[Member, ...], Field(exclude_if=operator.not_)] = ()
    noise_variance: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    default_samples: Annotated[int, Field(ge=1)] = DEFAULT_SAMPLES
    metrics: dict[str, Any] = {}
    calibration: Calibration = Calibration()
    provenance: dict[str, Any] = {}
    uncertainty: ValidationUncertainty | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Manifest:
        width = sum(column.width for column in self.inputs)
        if width != self.architecture.inputs:
            raise ValueError(f"{width} inputs for a network of {self.architecture.inputs}")
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
        if self.members and (len(self.members) == 1 or abs(sum(one.weight for one in self.members) - 1.0) > 1e-6):
            raise ValueError("an ensemble has two or more members, whose weights add up to 1")
        self._check_calibration(head)
        return self

    def _check_calibration(self, head: RegressionHead | ClassificationHead) -> None:
        if self.calibration.temperature is not None and isinstance(head, RegressionHead) and not head.variance:
            raise ValueError("a temperature is for classifications and variance heads")
        if self.calibration.conformal_ensemble is not None and not self.members:
            raise ValueError("conformal quantiles of method ensemble are for versions with members")
        sites = tuple(site.p for site in dropout_sites(self.architecture.layers()))
        lists = head.outputs if isinstance(head, RegressionHead) else 1
        for conformal in self.calibration.all_conformal:
            if conformal.dropout != sites:
                raise ValueError("conformal quantiles are for another dropout than the architecture's")
            if len(conformal.quantiles) != lists:
                raise ValueError(f"{len(conformal.quantiles)} lists of conformal quantiles, expected {lists}")

    @property
    def image(self) -> tuple[int, ...] | None:
        """Height, width and perhaps channels, where a row is an image."""
        return self.architecture.image if isinstance(self.architecture, FfStack) else None

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
    "members",
    "noise_variance",
    "default_samples",
    "calibration",
)


def answer_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON (sorted keys, no spaces, shortest floats) of the answering parts."""
    # A single network has no members.
    parts = {part: manifest[part] for part in ANSWERING_PARTS if part != "members" or part in manifest}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def seal(
    *,
    name: str,
    version: str,
    task: Task,
    weights_sha256: str,
    inputs: tuple[Input, ...],
    outputs: tuple[Target, ...] | tuple[ClassLabel, ...],
    architecture: Architecture,
    members: tuple[Member, ...] = (),
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
        members=members,
        noise_variance=noise_variance,
        default_samples=default_samples,
        metrics=metrics or {},
        calibration=calibration or Calibration(),
        provenance=provenance or {},
        uncertainty=uncertainty,
    )
    return draft.model_copy(update={"digest": draft.computed_digest()})
