"""Parsed JSON → domain values: the whole validation of what may be asked. Knows nothing of bytes or answers.

Native bodies are read here whole; other codecs bring options of the same names, and rows of their own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from models.features import Float64
from penumbra.schemas import MAX_QUANTILES, MAX_SAMPLES, MAX_SEED, MIN_SAMPLES, SampleOptions, SampleTarget
from service.blocks import Target
from service.engine.query import Committee
from service.errors import MAX_COMPLAINTS, InvalidRequest
from service.jobs import Sampling
from service.served import ServedModel
from service.settings import Settings


class Options(SampleOptions, total=False):
    """The options of a sampling request; its rows are looked at later, by what the model expects."""

    __pydantic_config__ = SampleOptions.__pydantic_config__  # type: ignore[misc]

    inputs: Any


_OPTIONS = TypeAdapter(Options).validator
# In the order in which they are listed.
_PREDICT_FIELDS = dict.fromkeys(("inputs",))
_SAMPLE_FIELDS = dict.fromkeys(("inputs", *SampleOptions.__annotations__))

_PLAIN = "written without quotes, decimal point or exponent"
_UNIT = "must be a number above 0 and below 1"
# One whole rule per option says more than which part of it was broken: 7.0 and "7" look like integers to some.
_RULES = {
    "seed": f"must be a whole number from 0 to {MAX_SEED}, {_PLAIN}",
    "samples": f"must be a whole number from 1, {_PLAIN}",
    "samples.target_stderr": "must be a number above 0",
    "samples.min": f"must be a whole number from 1, {_PLAIN}",
    "samples.max": f"must be a whole number from 1, {_PLAIN}",
    "first_sample": f"must be a whole number from 0 to {MAX_SEED}, {_PLAIN}",
    "method": "must be dropout, ensemble or moments",
    "aggregate": "must be mean, vote or weighted",
    "interval": _UNIT,
    "quantiles": f"must be a list of at most {MAX_QUANTILES} numbers above 0 and below 1",
    "dropout": "must be a number from 0 to 1",
    "return_draws": "must be true or false",
}


def prediction(body: dict[str, Any], model: ServedModel, limits: Settings) -> Float64:
    """The rows to predict, [rows, inputs] in raw units. Raises InvalidRequest or InvalidRows."""
    _check_fields(body, _PREDICT_FIELDS)
    check_prediction(_rows(body), model, limits)
    return model.standard.read(body["inputs"])


def sampling(body: dict[str, Any], model: ServedModel, limits: Settings) -> Sampling:
    """The sampling that is asked for; a seed that was omitted is drawn. Raises InvalidRequest or InvalidRows."""
    _check_fields(body, _SAMPLE_FIELDS)
    return sampling_of(read_options(body), _rows(body), lambda: model.standard.read(body["inputs"]), model, limits)


def read_options(fields: Mapping[str, Any]) -> Options:
    """Options by their native names, each checked by itself. Raises InvalidRequest."""
    try:
        options: Options = _OPTIONS.validate_python(fields)
    except ValidationError as error:
        raise InvalidRequest(_complaints(error, fields)) from None
    return options


def check_prediction(rows: int, model: ServedModel, limits: Settings) -> None:
    """Refuses a prediction of more rows than may be: InvalidRequest."""
    _check_sizes(rows, 1, 0, len(model.manifest.outputs), draws=False, limits=limits)


def sampling_of(
    options: Options, rows: int, read: Callable[[], Float64], model: ServedModel, limits: Settings
) -> Sampling:
    """The sampling of so many rows; `read` makes them, once all else is known to be right. Raises InvalidRequest."""
    manifest = model.manifest
    if manifest.task == "regression" and options.get("aggregate", "mean") != "mean":
        raise InvalidRequest([("aggregate", "is for classifications; the samples of a regression are averaged")])
    weighted = options.get("aggregate") == "weighted" and options.get("method", "dropout") != "ensemble"
    if weighted and manifest.members:  # without members to weigh nothing would mend it
        raise InvalidRequest([("aggregate", "can be weighted with method ensemble alone")])
    if options.get("method") == "moments":
        _check_moments(options)
    if manifest.task == "classification" and options.get("quantiles"):
        raise InvalidRequest([("quantiles", "are for regressions")])
    samples, target = _samples(options.get("samples", manifest.default_samples))
    first = options.get("first_sample", 0)
    draws = options.get("return_draws", False)
    sampled = options.get("method") != "moments"
    name = "samples" if target is None else "samples.max"
    _check_sizes(rows, samples, first, len(manifest.outputs), draws=draws, limits=limits, name=name)
    return Sampling(
        rows=read(),
        committee=Committee(
            seed=options["seed"] if "seed" in options else secrets.randbelow(MAX_SEED + 1) if sampled else 0,
            samples=samples if sampled else 0,
            first_sample=first,
            p=options.get("dropout"),
        ),
        seeded="seed" in options or not sampled,
        method=options.get("method", "dropout"),
        aggregate=options.get("aggregate", "mean"),
        level=options.get("interval", 0.9),
        quantiles=tuple(options.get("quantiles", ())),
        return_draws=draws,
        target=target,
    )


def _check_moments(options: Options) -> None:
    """Refuses what can't be had without samples. Raises InvalidRequest."""
    if options.get("return_draws"):
        raise InvalidRequest([("return_draws", "can't be true with method moments: nothing is drawn")])
    if isinstance(options.get("samples"), dict):
        raise InvalidRequest([("samples", "can't be a target with method moments: nothing is sampled")])
    if options.get("aggregate", "mean") != "mean":
        raise InvalidRequest([("aggregate", "must be mean with method moments: nothing is sampled")])


def _samples(asked: int | SampleTarget) -> tuple[int, Target | None]:
    """How many samples to take, or how many at most and until when. Raises InvalidRequest."""
    if isinstance(asked, int):
        return asked, None
    least = asked.get("min", min(MIN_SAMPLES, asked.get("max", MIN_SAMPLES)))
    most = asked.get("max", max(MAX_SAMPLES, least))
    if least > most:
        raise InvalidRequest([("samples.min", "must be at most samples.max")])
    return most, Target(asked["target_stderr"], least)


def _check_fields(body: dict[str, Any], known: dict[str, None]) -> None:
    if "inputs" not in body:
        raise InvalidRequest([("inputs", "is missing")])
    if not body.keys() <= known.keys():
        unknown = len(body.keys() - known.keys())
        plural = "s" if unknown > 1 else ""
        raise InvalidRequest([("body", f"has {unknown} unknown field{plural}; known are {', '.join(known)}")])


def _rows(body: dict[str, Any]) -> int:
    return len(body["inputs"]) if isinstance(body["inputs"], list) else 0


def _check_sizes(
    rows: int, samples: int, first: int, outputs: int, *, draws: bool, limits: Settings, name: str = "samples"
) -> None:
    """Refuses what would be too large, before anything of that size exists."""
    if rows > limits.max_rows:
        raise InvalidRequest([("inputs", f"must have at most {limits.max_rows} rows")])
    if samples > limits.max_samples:
        raise InvalidRequest([(name, f"must be at most {limits.max_samples}")])
    if first + samples - 1 > MAX_SEED:
        raise InvalidRequest([("first_sample", f"and samples must come to {MAX_SEED + 1} at most")])
    if rows * samples > limits.max_evaluations:
        raise InvalidRequest([(name, f"times rows must be at most {limits.max_evaluations}; split the request")])
    numbers = rows * samples * outputs
    if numbers > limits.max_numbers:
        raise InvalidRequest(
            [(name, f"times rows times outputs must be at most {limits.max_numbers}; split the request")]
        )
    if draws and numbers > limits.max_returned_draws:
        raise InvalidRequest([("return_draws", f"would return more than {limits.max_returned_draws} numbers")])


def _complaints(error: ValidationError, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rules that were broken, and where: a list's item is named like `quantiles[3]`."""
    complaints: dict[str, str] = {}
    for found in error.errors(include_url=False, include_input=False, include_context=False):
        option, *place = map(str, found["loc"])
        if option == "samples":
            complaints |= _about_samples(place, found["type"], targeted=isinstance(fields[option], dict))
        else:
            complaints[option + "".join(f"[{part}]" for part in place)] = _UNIT if place else _RULES[option]
    return list(complaints.items())[:MAX_COMPLAINTS]


def _about_samples(place: list[str], kind: str, *, targeted: bool) -> dict[str, str]:
    """What is wrong with `samples`, which may be two things: `place` begins with the one that it failed to be."""
    option, *part = place
    if not targeted:
        return {"samples": _RULES["samples"]}
    if option != SampleTarget.__name__:
        return {}
    known = ", ".join(SampleTarget.__annotations__)
    if kind == "extra_forbidden":  # its name is the caller's
        return {"samples": f"has an unknown field; known are {known}"}
    return {f"samples.{part[0]}": "is missing" if kind == "missing" else _RULES[f"samples.{part[0]}"]}
