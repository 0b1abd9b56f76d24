"""The protocol's JSON as OpenAPI describes it. What may be sent is decided elsewhere, by `requests` and `orders`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from penumbra.schemas import MAX_SEED
from service.api.oip.requests import LONGEST_TIMEOUT
from service.api.oip.tensors import NUMBERS

Scalar = str | int | float | bool
Unused = Annotated[Any, Field(description="Taken, since clients send it, and without effect.")]
Shape = Annotated[list[int], Field(description="-1 for a dimension of any size")]
_CLOSED = ConfigDict(extra="forbid")
_Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
_Digits = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,15})$")]


class InferParameters(TypedDict, total=False):
    """How to answer. With seed or samples it is a sampling, else a prediction."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    seed: Annotated[_Seed | _Digits, Field(description="Names the committee: a whole number, or its digits.")]
    samples: Annotated[int, Field(ge=1, description="Thinned networks to ask. Default: the manifest's.")]
    first_sample: Annotated[int, Field(ge=0, le=MAX_SEED, description="Index of the first sample. Default: 0.")]
    method: Literal["dropout", "ensemble", "moments"]
    aggregate: Literal["mean", "vote", "weighted"]
    interval: Annotated[float, Field(gt=0, lt=1, description="Level of lower and upper. Default: 0.9.")]
    quantiles: Annotated[str, Field(description="Regression: probabilities, with commas between them.")]
    dropout: Annotated[float, Field(ge=0, le=1, description="What-if: replaces every layer's p.")]
    draws: Annotated[bool, Field(description="Also the raw samples. Default: false.")]
    binary_data_output: Annotated[bool, Field(description="Outputs as bytes behind the JSON. Default: false.")]
    timeout: Annotated[
        int, Field(ge=0, le=LONGEST_TIMEOUT, description="Microseconds in the queue, unless X-Deadline-Ms is sent.")
    ]
    priority: Unused
    sequence_id: Unused
    sequence_start: Unused
    sequence_end: Unused
    content_type: Unused
    headers: Unused


class TensorParameters(TypedDict, total=False):
    """How an input is sent."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    binary_data_size: Annotated[int, Field(ge=0, description="Bytes behind the JSON, in place of data.")]
    content_type: Unused


class InferInput(TypedDict, total=False):
    """A tensor that is sent: nested or flat data, or bytes."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    name: Required[Literal["inputs"]]
    shape: Required[
        Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2, description="rows, features")]
    ]
    datatype: Required[Annotated[str, Field(json_schema_extra={"enum": list(NUMBERS)})]]
    data: list[float | list[float]]
    parameters: TensorParameters | None


class OutputParameters(TypedDict, total=False):
    """How an output is to be written."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    binary_data: Annotated[bool, Field(description="As bytes behind the JSON.")]
    content_type: Unused


class RequestedOutput(TypedDict, total=False):
    """An output that is asked for."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    name: Required[str]
    parameters: OutputParameters | None


class InferRequest(TypedDict, total=False):
    """What to predict or to sample."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    id: str | None
    parameters: InferParameters | None
    inputs: Required[Annotated[list[InferInput], Field(min_length=1, max_length=1)]]
    outputs: Annotated[list[RequestedOutput] | None, Field(description="None: all that there are.")]
    model_name: Unused
    model_version: Unused


class InferOutput(TypedDict, total=False):
    """A tensor of the answer."""

    name: Required[str]
    shape: Required[list[int]]
    datatype: Required[Literal["FP64", "BYTES"]]
    parameters: dict[str, Scalar]
    data: Annotated[list[float | str | None], Field(description="Flat, row after row; null is undefined.")]


class InferResponse(TypedDict, total=False):
    """The answer; its parameters are the digest and, of a sampling, the effective options."""

    model_name: Required[str]
    model_version: Required[str]
    id: str
    parameters: dict[str, Scalar]
    outputs: Required[list[InferOutput]]


class ServerMetadata(BaseModel):
    """The service."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool


class ServerReady(ServerLive):
    """The process takes requests."""

    ready: bool


class ModelReady(BaseModel):
    """A version is served."""

    name: str
    ready: bool


class MetadataTensor(BaseModel):
    """A tensor that may be sent or answered."""

    name: str
    datatype: str
    shape: Shape


class ModelMetadata(BaseModel):
    """A version's tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[MetadataTensor]
    outputs: list[MetadataTensor]


class ConfigTensor(BaseModel):
    """The same, as Triton's configuration has it."""

    name: str
    data_type: str
    dims: Shape


class ModelConfig(BaseModel):
    """A version's configuration, as Triton spells it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfigTensor]
    output: list[ConfigTensor]
    parameters: dict[str, dict[str, str]]


class Duration(BaseModel):
    """How often, and how many nanoseconds in all."""

    count: int
    ns: int


class ModelStatistics(BaseModel):
    """What this worker process has counted; `inference_count` are rows, `last_inference` is in milliseconds."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, Duration]
    batch_stats: list[Any]


class Statistics(BaseModel):
    """The counts of each version."""

    model_stats: list[ModelStatistics]


class IndexRequest(TypedDict, total=False):
    """What to list."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    ready: Annotated[bool, Field(description="Only versions that are served.")]


class IndexEntry(BaseModel):
    """A version in the store or in service."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class UnloadParameters(TypedDict, total=False):
    """A configuration or files are not taken."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    unload_dependents: Unused


class RepositoryRequest(TypedDict, total=False):
    """An order, which needs no more than its address says."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]

    parameters: UnloadParameters | None


class ProtocolError(BaseModel):
    """What went wrong."""

    error: str
