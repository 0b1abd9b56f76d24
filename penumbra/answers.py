"""What the client's calls return: the fields of the wire contract, with arrays for its lists.

Chunks of rows become one answer here, and an answer becomes JSON again: the very bytes of the service. What is
undefined is None, a single number that is undefined is NaN. Knows nothing of how answers travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from penumbra import arrays, schemas
from penumbra.arrays import Floats, Integers
from penumbra.errors import ModelChanged
from penumbra.schemas import ModelReference


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """A central interval of each output; `lower` and `upper` [rows, outputs] are None where it is undefined.

    `kind` says of what: "epistemic" of the network's mean, "predictive" of the next observation, "conformal" likewise
    and calibrated on held-out rows.
    """

    level: float
    kind: Literal["epistemic", "predictive", "conformal"]
    lower: Floats | None
    upper: Floats | None


class Progress(NamedTuple):
    """How far a stream has come: `samples` are done, of so many at most."""

    samples: int
    of: int


class _Answer:
    """What all answers can do."""

    __slots__ = ()

    def to_json(self) -> bytes:
        """The body with which the service answers one request for all these rows, byte for byte."""
        return arrays.as_json(_as_dict(self))

    def columns(self, outputs: Sequence[str] = ()) -> dict[str, Any]:
        """One value for each row under each name: what a frame is made of.

        `outputs` are the names of the outputs or classes, `client.model(…).output_names`. With them, numbers of an
        output are called `progression_mean`, without them `mean`, or `mean_0`, `mean_1` … where there are several.
        Draws are left out.
        """
        return dict(_columns(self, outputs))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RegressionPrediction(_Answer):
    """The full network's answer: `mean` [rows, outputs]; `aleatoric_std` where the model has a variance head."""

    model: ModelReference
    mean: Floats
    aleatoric_std: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClassPrediction(_Answer):
    """The full network's answer: a label for each row, and `probabilities` [rows, classes]."""

    model: ModelReference
    labels: list[str]
    probabilities: Floats


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RegressionSample(_Answer):
    """A committee's answer, each array [rows, outputs]: std² = epistemic_std² + aleatoric_std².

    `epistemic_std` is what the thinned networks disagree about, `aleatoric_std` what no network could know, `stderr`
    the Monte Carlo standard error of `mean`. `quantiles` by probability; `draws` [samples, rows, outputs]; `converged`
    where a target was given. `seed`, `first_sample` and `samples` name the committee; an answer that was worked out
    without one is `approximate`, and has none. `progress` while it streams.
    """

    progress: Progress | None = None
    model: ModelReference
    seed: int | None
    first_sample: int | None
    samples: int
    method: str
    approximate: bool | None = None
    converged: bool | None = None
    mean: Floats
    std: Floats | None
    epistemic_std: Floats | None
    aleatoric_std: Floats | None
    stderr: Floats | None
    interval: Interval
    quantiles: dict[float, Floats | None] | None = None
    draws: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClassSample(_Answer):
    """A committee's answer. `labels` and the entropies (nats) have one value for each row, others [rows, classes].

    `probabilities` are means over samples, `std` and `stderr` their spread and Monte Carlo standard error, `votes`
    count the samples that chose each class. `mutual_information` is the part of `predictive_entropy` that comes from
    disagreement. `prediction_set`, for each row, has the labels that hold the true one as often as `interval` says; a
    `calibrated` version has None where its calibration is for other settings. `draws` [samples, rows, classes];
    `converged` where a target was given. `progress` while it streams.
    """

    progress: Progress | None = None
    model: ModelReference
    seed: int | None
    first_sample: int | None
    samples: int
    method: str
    approximate: bool | None = None
    converged: bool | None = None
    labels: list[str]
    probabilities: Floats
    std: Floats | None
    stderr: Floats | None
    predictive_entropy: Floats
    expected_entropy: Floats
    mutual_information: Floats
    variation_ratio: Floats
    votes: Integers | None
    prediction_set: list[list[str]] | None = None
    draws: Floats | None = None
    calibrated: bool = False


Prediction: TypeAlias = RegressionPrediction | ClassPrediction
Sample: TypeAlias = RegressionSample | ClassSample
A = TypeVar("A", RegressionPrediction, ClassPrediction, RegressionSample, ClassSample)

# One value for each row, not one for each row and output.
_PER_ROW = (
    "labels", "predictive_entropy", "expected_entropy", "mutual_information", "variation_ratio", "prediction_set",
)  # fmt: skip
_SINGULAR = {"labels": "label", "probabilities": "probability"}


def prediction(fields: Mapping[str, Any]) -> Prediction:
    """The answer that a body of `predict` is. Raises ValidationError where it isn't one."""
    if "labels" in fields:
        return _of_wire(ClassPrediction, schemas.ClassPrediction.model_validate(fields))
    return _of_wire(RegressionPrediction, schemas.RegressionPrediction.model_validate(fields))


def sample(fields: Mapping[str, Any]) -> Sample:
    """The answer that a body of `sample` is. Raises ValidationError where it isn't one."""
    if "labels" in fields:
        return _of_wire(ClassSample, schemas.ClassSample.model_validate(fields))
    return _of_wire(RegressionSample, schemas.RegressionSample.model_validate(fields))


def running(fields: Mapping[str, Any]) -> Sample:
    """The answer so far that an event of a stream tells. Raises ValidationError or LookupError where it isn't one."""
    said = fields["progress"]
    return replace(sample(fields), progress=Progress(int(said["samples"]), int(said["of"])))


def joined(parts: Sequence[A]) -> A:
    """The answer to all rows, from answers to successive chunks of them. Raises ModelChanged."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if len({part.model.digest for part in parts}) > 1:
        raise ModelChanged(f"{first.model.name} was replaced while its answers came in: ask again")
    return replace(
        first,
        **{
            field.name: _side_by_side(field.name, [getattr(part, field.name) for part in parts])
            for field in fields(first)
            if field.name not in _SHARED
        },
    )


_SHARED = ("progress", "model", "seed", "first_sample", "samples", "method", "approximate", "converged", "calibrated")


def _side_by_side(name: str, parts: list[Any]) -> Any:
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Interval):
        bounds = {side: _side_by_side(side, [getattr(part, side) for part in parts]) for side in ("lower", "upper")}
        return replace(first, **bounds)
    if isinstance(first, dict):
        return {key: _side_by_side(name, [part[key] for part in parts]) for key in first}
    return arrays.concatenated(parts, axis=1 if name == "draws" else 0)


def _of_wire(kind: type[A], found: Any) -> A:
    """An answer from its model of the wire contract; fields that one side doesn't know are left out."""
    values = {field.name: getattr(found, field.name, None) for field in fields(kind)}
    return kind(**{name: _array(name, value) for name, value in values.items()})


def _array(name: str, value: Any) -> Any:
    if isinstance(value, schemas.Interval):
        bounds = {side: _array(side, getattr(value, side)) for side in ("lower", "upper")}
        return Interval(value.level, value.kind, **bounds)
    if isinstance(value, dict):
        return {float(key): _array(name, each) for key, each in value.items()}
    if name == "votes" and value is not None:
        return arrays.integers(value)
    return arrays.floats(value) if isinstance(value, list) and name not in ("labels", "prediction_set") else value


def _as_dict(answer: Any) -> dict[str, Any]:
    """The wire's fields, in its order: what has a default is left out where it is None."""
    found: dict[str, Any] = {}
    for field in fields(answer):
        value = getattr(answer, field.name)
        if field.name in ("prediction_set", "calibrated"):
            # A null says that the version is calibrated, and not for these settings.
            if field.name == "prediction_set" and answer.calibrated:
                found[field.name] = value
        elif isinstance(value, ModelReference):
            found[field.name] = value.model_dump()
        elif isinstance(value, Progress):
            found[field.name] = value._asdict()
        elif isinstance(value, Interval):
            found[field.name] = _as_dict(value)
        elif isinstance(value, dict):
            found[field.name] = {repr(key): each for key, each in value.items()}
        elif not (value is None and field.default is None):
            found[field.name] = value
    return found


def _columns(answer: Any, outputs: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for field in fields(answer):
        value = getattr(answer, field.name)
        if isinstance(value, Interval):
            yield from _named(answer, "lower", value.lower, outputs)
            yield from _named(answer, "upper", value.upper, outputs)
        elif isinstance(value, dict):
            for key, each in value.items():
                yield from _named(answer, f"q{key!r}", each, outputs)
        elif field.name in _PER_ROW:
            if value is not None:
                yield _SINGULAR.get(field.name, field.name), value
        elif field.name not in (*_SHARED, "draws"):
            yield from _named(answer, _SINGULAR.get(field.name, field.name), value, outputs)


def _named(answer: Any, name: str, matrix: Any, outputs: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The columns of [rows, outputs], each under its name."""
    if matrix is None:
        return
    width = len(matrix[0])
    if outputs and len(outputs) != width:
        raise ValueError(f"{len(outputs)} names for {width} outputs")
    classes = isinstance(answer, (ClassPrediction, ClassSample))
    for place in range(width):
        column = matrix[:, place] if hasattr(matrix, "shape") else [row[place] for row in matrix]
        if classes:
            yield f"{name}_{outputs[place] if outputs else place}", column
        elif outputs:
            yield f"{outputs[place]}_{name}", column
        else:
            yield (name if width == 1 else f"{name}_{place}"), column
