"""The wire contract of native `/v1`: requests and answers, shared by both sides.

Requests are typed dictionaries, so that an omitted field is absent and a null is an error; answers are models.
Depends on pydantic alone; knows nothing of networks, engines or servers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import BaseModel, ConfigDict, Field, Strict
from typing_extensions import TypedDict

MAX_SEED = 2**53 - 1
MAX_QUANTILES = 32

_WholeNumber = Annotated[int, Strict()]
_OpenUnit = Annotated[float, Strict(), Field(gt=0, lt=1)]
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Row = Annotated[
    list[float] | dict[str, float],
    Field(description="Numbers in the manifest's order, or an object keyed by input names; raw units."),
]
Rows = Annotated[list[Row], Field(min_length=1, description="Rows, all of the same form.")]
Matrix = Annotated[list[list[float | None]], Field(description="rows × outputs")]
PerRow = Annotated[list[float | None], Field(description="one number per row")]


class PredictRequest(TypedDict):
    """What to predict."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    inputs: Rows


class SampleOptions(TypedDict, total=False):
    """How to sample: every field of a sampling request but its rows."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    seed: Annotated[
        _WholeNumber,
        Field(ge=0, le=MAX_SEED, description="Names the committee. Omitted: drawn at random, and returned."),
    ]
    samples: Annotated[_WholeNumber, Field(ge=1, description="Thinned networks to ask. Default: the manifest's.")]
    first_sample: Annotated[
        _WholeNumber, Field(ge=0, le=MAX_SEED, description="Index of the first sample. Default: 0.")
    ]
    method: Annotated[
        Literal["dropout", "ensemble"],
        Field(description="Thinned networks of one, or independently trained members. Default: dropout."),
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


class ModelEntry(BaseModel):
    """One line of the list of models."""

    name: str
    version: Annotated[str | None, Field(description="The version served by default; null while none is ready.")]
    versions: list[str]
    task: Literal["regression", "classification"] | None
    digest: str | None
    ready: bool


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
    seed: int
    first_sample: int
    samples: int
    method: Literal["dropout", "ensemble"]


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
    votes: Annotated[list[list[int]], Field(description="rows × classes: how many samples chose each class.")]
    prediction_set: Annotated[
        list[list[str]] | None,
        Field(
            description="Of a calibrated version: labels that hold the true one with probability `interval` or more;"
            " null where the calibration is for other samples, method or dropout."
        ),
    ] = None
    draws: Annotated[list[Matrix], Field(description="samples × rows × classes")] | None = None


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
