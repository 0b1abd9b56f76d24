"""The wire contract of native `/v1`: requests and answers, shared by both sides.

Requests are typed dictionaries, so that an omitted field is absent and a null is an error; answers are models.
Depends on pydantic alone; knows nothing of networks, engines or servers.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, Required

from pydantic import BaseModel, ConfigDict, Field, Strict
from typing_extensions import TypedDict

MAX_SEED = 2**53 - 1
MAX_QUANTILES = 32
# Of a sampling with a target: samples that are always taken, and the most that are.
MIN_SAMPLES, MAX_SAMPLES = 32, 4096

_WholeNumber = Annotated[int, Strict()]
_OpenUnit = Annotated[float, Strict(), Field(gt=0, lt=1)]
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

_Pixels = list[float] | list[list[float]]
Value = float | bool | str | None
Row = Annotated[
    list[Value] | dict[str, Value] | list[_Pixels],
    Field(
        description="Values in the manifest's order, or an object keyed by input names; raw units. Numbers, unless the "
        "manifest has other kinds of inputs; an image also nested, height × width."
    ),
]
Rows = Annotated[list[Row], Field(min_length=1, description="Rows, all of the same form.")]
Matrix = Annotated[list[list[float | None]], Field(description="rows × outputs")]
PerRow = Annotated[list[float | None], Field(description="one number per row")]


class PredictRequest(TypedDict):
    """What to predict."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    inputs: Rows


class SampleTarget(TypedDict, total=False):
    """As many samples as it takes, in blocks, until every mean's Monte Carlo standard error is at most the target."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    target_stderr: Required[
        Annotated[float, Strict(), Field(gt=0, description="In the units of the mean, or of a probability.")]
    ]
    min: Annotated[
        _WholeNumber, Field(ge=1, description=f"Stop at no fewer. Default: {MIN_SAMPLES}, or max if that is less.")
    ]
    max: Annotated[
        _WholeNumber, Field(ge=1, description=f"Stop here anyway. Default: {MAX_SAMPLES}, or min if that is more.")
    ]


class SampleOptions(TypedDict, total=False):
    """How to sample: every field of a sampling request but its rows."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    seed: Annotated[
        _WholeNumber,
        Field(ge=0, le=MAX_SEED, description="Names the committee. Omitted: drawn at random, and returned."),
    ]
    samples: Annotated[
        Annotated[_WholeNumber, Field(ge=1)] | SampleTarget,
        Field(description="Thinned networks to ask, or how well to know their mean. Default: the manifest's number."),
    ]
    first_sample: Annotated[
        _WholeNumber, Field(ge=0, le=MAX_SEED, description="Index of the first sample. Default: 0.")
    ]
    method: Annotated[
        Literal["dropout", "ensemble", "moments"],
        Field(
            description="Thinned networks of one; independently trained members, which take turns; or the mean and "
            "variance of the former in one pass, approximate, without samples or seed. Default: dropout."
        ),
    ]
    aggregate: Annotated[
        Literal["mean", "vote", "weighted"],
        Field(description="Classification: how samples decide the label. Default: mean of probabilities."),
    ]
    interval: Annotated[_OpenUnit, Field(description="Level of the central interval. Default: 0.9.")]
    quantiles: Annotated[
        list[_OpenUnit], Field(max_length=MAX_QUANTILES, description="Regression: probabilities to report.")
    ]
    dropout: Annotated[float, Strict(), Field(ge=0, le=1, description="What-if: replaces every layer's p.")]
    return_draws: Annotated[bool, Strict(), Field(description="Also the raw samples. Default: false.")]


class SampleRequest(SampleOptions, total=False):
    """What to sample, and how."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    inputs: Required[Rows]


class ModelReference(BaseModel):
    """Which version answered."""

    name: str
    version: str
    digest: str


class FailedVersion(BaseModel):
    """A version that is in the store and is not served, and why."""

    version: str
    reason: str


class ModelEntry(BaseModel):
    """One line of the list of models."""

    name: str
    version: Annotated[str | None, Field(description="The version served by default; null while none is ready.")]
    versions: list[str]
    task: Literal["regression", "classification"] | None
    digest: str | None
    ready: bool
    pinned: Annotated[
        str | None, Field(description="Only where a version is pinned: that one.", exclude_if=operator.not_)
    ] = None
    failed: Annotated[
        list[FailedVersion],
        Field(description="Only where versions did not pass verification.", exclude_if=operator.not_),
    ] = []


class ModelList(BaseModel):
    """All models, sorted by name."""

    models: list[ModelEntry]


class Reproducibility(BaseModel):
    """Why an answer's bits do not depend on company, and whether this was checked.

    Plan "ordered": every sum in the order of its inputs. Else rows are filled up for PyTorch's products: to a multiple
    of `rows` ("aligned"), or to `rows` always ("fixed").
    """

    plan: Literal["ordered", "aligned", "fixed"]
    rows: int
    verified: bool


class ModelDescription(BaseModel):
    """The manifest of a version."""

    model_config = ConfigDict(extra="allow")

    name: str
    version: str
    task: Literal["regression", "classification"]
    digest: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    architecture: dict[str, Any]
    default_samples: int
    reproducibility: Reproducibility
    metrics: dict[str, Any]
    calibration: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def input_names(self) -> list[str]:
        """What the numbers of a row are called, in order."""
        return [column["name"] for column in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """What the outputs are called, or the classes, in order."""
        return [column["name"] for column in self.outputs]

    @property
    def set_labels(self) -> list[str]:
        """What prediction sets are made of, in order; nothing where the version has no calibration for any."""
        calibrated = any(name.startswith("conformal") for name in self.calibration)
        return self.output_names if calibrated and self.task == "classification" else []


class RegressionPrediction(BaseModel):
    """The full network's answer."""

    model: ModelReference
    mean: Matrix
    aleatoric_std: Annotated[Matrix, Field(description="Only where the model has a variance head.")] | None = None


class ClassPrediction(BaseModel):
    """The full network's answer."""

    model: ModelReference
    labels: list[str]
    probabilities: Matrix


class Interval(BaseModel):
    """A central interval; `kind` says of what: the network's mean, an observation, or conformally calibrated."""

    level: float
    kind: Literal["epistemic", "predictive", "conformal"]
    lower: Matrix | None
    upper: Matrix | None


class _Sample(BaseModel):
    model: ModelReference
    seed: Annotated[int | None, Field(description="null for method moments, which needs none.")]
    first_sample: int | None
    samples: Annotated[int, Field(description="Samples that were used; 0 for method moments.")]
    method: Literal["dropout", "ensemble", "moments"]
    approximate: Annotated[bool | None, Field(description="Only for method moments: true.")] = None
    converged: Annotated[bool | None, Field(description="Only where a target was given: whether it was reached.")] = (
        None
    )


class RegressionSample(_Sample):
    """The committee's answer: std² = epistemic_std² + aleatoric_std²; null is undefined."""

    mean: Matrix
    std: Matrix | None
    epistemic_std: Matrix | None
    aleatoric_std: Matrix | None
    stderr: Annotated[Matrix | None, Field(description="Monte Carlo standard error of mean.")]
    interval: Interval
    quantiles: dict[str, Matrix | None] | None = None
    draws: Annotated[list[Matrix], Field(description="samples × rows × outputs")] | None = None


class ClassSample(_Sample):
    """The committee's answer; entropies in nats; null is undefined."""

    labels: list[str]
    probabilities: Annotated[Matrix, Field(description="Mean over samples.")]
    std: Matrix | None
    stderr: Annotated[Matrix | None, Field(description="Monte Carlo standard error of probabilities.")]
    predictive_entropy: PerRow
    expected_entropy: PerRow
    mutual_information: PerRow
    variation_ratio: PerRow
    votes: Annotated[list[list[int]] | None, Field(description="rows × classes: how many samples chose each class.")]
    prediction_set: Annotated[
        list[list[str]] | None,
        Field(
            description="Of a calibrated version: labels that hold the true one with probability `interval` or more;"
            " null where the calibration is for other samples, method or dropout."
        ),
    ] = None
    draws: Annotated[list[Matrix], Field(description="samples × rows × classes")] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the version has prediction sets, if perhaps not for these settings."""
        return "prediction_set" in self.model_fields_set


class Progress(BaseModel):
    """How far a sampling has come: `samples` are done, of so many at most."""

    samples: int
    of: int


class RunningRegressionSample(RegressionSample):
    """What a stream reports after a block: the answer that these samples alone would give, without their draws."""

    progress: Progress


class RunningClassSample(ClassSample):
    """What a stream reports after a block: the answer that these samples alone would give, without their draws."""

    progress: Progress


class JobProgress(BaseModel):
    """So many are done, of about so many."""

    done: int
    of: int


class JobDescription(BaseModel):
    """A table that was handed in: what is done with it, and how far that is."""

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    error: Annotated[str | None, Field(description="Why it failed.")]
    model: ModelReference
    verb: Literal["sample", "predict"]
    options: Annotated[dict[str, Any] | None, Field(description="Of the sampling, its seed among them.")]
    chunks: JobProgress
    rows: Annotated[JobProgress, Field(description="How many there are is an estimate until it is done.")]
    created: Annotated[str, Field(description="When it was handed in: ISO 8601.")]

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state not in ("waiting", "running")


class JobList(BaseModel):
    """One's own jobs, the last one first."""

    jobs: list[JobDescription]


class FieldError(BaseModel):
    """One complaint about one field."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: Annotated[list[FieldError], Field(max_length=10)] = []
    request_id: str


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """The process takes requests."""

    ready: bool
