"""Requests of the protocol → domain values: JSON, and the tensors that follow it as bytes. Knows nothing of answers.

Sampling is asked for by parameters. They are read by the rules of the native options, whose names they share but for
`draws`; two of them are texts here, since a parameter can't be a list or, for some clients, a large integer.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import orjson

from models.features import Float64, Standard
from penumbra.schemas import MAX_QUANTILES, MAX_SEED
from service.api import decoding, strict_json, tags
from service.api.oip import outputs
from service.api.oip.outputs import Wanted
from service.api.oip.tensors import FLOATS, NUMBERS, flattened, from_bytes
from service.errors import InvalidRequest, MalformedRequest
from service.jobs import Sampling
from service.served import ServedModel
from service.settings import Settings

INPUT = "inputs"
_LENGTH = re.compile(rb"[0-9]{1,12}")
_SEED = re.compile(r"0|[1-9][0-9]{0,15}")
LONGEST_TIMEOUT = 24 * 3600 * 10**6  # microseconds
# Clients tell the server what they have made of a body already, and repeat what its path says.
_FIELDS = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
_INPUT_FIELDS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_FIELDS = ("name", "parameters")
# Parameter → native option.
_OPTIONS = {
    **{name: name for name in ("seed", "samples", "first_sample", "method", "aggregate", "interval", "quantiles")},
    "dropout": "dropout",
    "draws": "return_draws",
}
_PARAMETERS = {option: parameter for parameter, option in _OPTIONS.items()}
# Of no consequence here: how other servers schedule, and what their clients' codecs say to each other.
_WITHOUT_EFFECT = ("priority", "sequence_id", "sequence_start", "sequence_end", "content_type", "headers")


class Asked(NamedTuple):
    """What an infer request asks for: a sampling, or a prediction for its rows [rows, inputs] in raw units.

    `outputs` are the tensors that are named, `binary` how others are written, `timeout_ms` how long the caller waits in
    the queue, `tag` the answer's, where it can be asked for again.
    """

    rows: Float64
    sampling: Sampling | None
    id: str | None
    outputs: tuple[Wanted, ...]
    binary: bool
    timeout_ms: float | None
    tag: bytes | None


def read(model: ServedModel, limits: Settings, header_length: bytes | None, body: bytes) -> Asked:
    """The whole request; `header_length` is that of its JSON, as sent. Raises MalformedRequest or what is invalid."""
    fields, raw = _split(body, header_length)
    check_names("body", fields, _FIELDS)
    identity = _id(fields.get("id"))
    parameters = read_object("parameters", fields.get("parameters"))
    check_names("parameters", parameters, (*_OPTIONS, "binary_data_output", "timeout", *_WITHOUT_EFFECT))
    binary = read_truth("parameters.binary_data_output", parameters.get("binary_data_output", False))
    tensor = _Input.read(fields.get(INPUT), len(model.standard.names))
    wanted = _wanted(fields.get("outputs"), binary)

    def rows() -> Float64:
        return tensor.rows(raw, model.standard)

    options = _options(parameters)
    if options is None:
        decoding.check_prediction(tensor.shape[0], model, limits)
        outputs.check(wanted, model, None)
        sampling, read_rows = None, rows()
    else:
        try:
            sampling = decoding.sampling_of(decoding.read_options(options), tensor.shape[0], rows, model, limits)
        except InvalidRequest as error:
            raise InvalidRequest([(_as_parameter(field), message) for field, message in error.complaints]) from None
        outputs.check(wanted, model, sampling)
        read_rows = sampling.rows
    return Asked(
        rows=read_rows,
        sampling=sampling,
        id=identity,
        outputs=wanted,
        binary=binary,
        timeout_ms=_timeout(parameters),
        tag=_tag(model, sampling, tensor, raw, read_rows, (identity, [*map(list, wanted)], binary)),
    )


def _tag(
    model: ServedModel, sampling: Sampling | None, tensor: _Input, raw: memoryview, rows: Float64, form: tuple[Any, ...]
) -> bytes | None:
    """The answer's tag; none where the seed was drawn."""
    if sampling is not None and not sampling.seeded:
        return None
    if tensor.size is None:
        return tags.of_tensors(model, sampling, form, None, rows)
    return tags.of_tensors(model, sampling, (*form, tensor.datatype), raw, rows)


def _split(body: bytes, header_length: bytes | None) -> tuple[dict[str, Any], memoryview]:
    """The JSON and the bytes behind it."""
    if header_length is None:
        try:
            return strict_json.parse_object(body), memoryview(b"")
        except MalformedRequest as error:
            if b"binary_data_size" in body:
                raise MalformedRequest(f"{error}; where bytes follow, send Inference-Header-Content-Length") from None
            raise
    if not _LENGTH.fullmatch(header_length) or not 1 <= int(header_length) <= len(body):
        raise MalformedRequest("Inference-Header-Content-Length must be the length of the JSON, in bytes of the body")
    length = int(header_length)
    return strict_json.parse_object(body[:length]), memoryview(body)[length:]


def _id(sent: Any) -> str | None:
    if not (sent is None or isinstance(sent, str)):
        raise InvalidRequest([("id", "must be a text")])
    return sent


class _Input(NamedTuple):
    """The input tensor as it is described; `size` is None where `data` are in the JSON."""

    shape: tuple[int, int]
    datatype: str
    size: int | None
    data: Any

    @classmethod
    def read(cls, inputs: Any, width: int) -> _Input:
        if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
            raise InvalidRequest([("inputs", f"must be a list of one tensor, called {INPUT}")])
        (tensor,) = inputs
        check_names("inputs", tensor, _INPUT_FIELDS)
        if tensor.get("name") != INPUT:
            raise InvalidRequest([("inputs.name", f"must be {INPUT}: it is the only input")])
        datatype, shape = tensor.get("datatype"), tensor.get("shape")
        if not (isinstance(datatype, str) and datatype in NUMBERS):
            raise InvalidRequest([("inputs.datatype", f"must be one of {', '.join(NUMBERS)}")])
        sizes = isinstance(shape, list) and [type(size) for size in shape] == [int, int]
        if not sizes or shape[0] < 1 or shape[1] != width:
            raise InvalidRequest([("inputs.shape", f"must be [rows, {width}], with at least one row")])
        parameters = read_object("inputs.parameters", tensor.get("parameters"))
        check_names("inputs.parameters", parameters, ("binary_data_size", "content_type"))
        size, data = parameters.get("binary_data_size"), tensor.get("data")
        if (size is None) == (data is None):
            raise InvalidRequest([("inputs", "must have either data or a binary_data_size among its parameters")])
        if not (size is None or type(size) is int):
            raise InvalidRequest([("inputs.parameters.binary_data_size", "must be a whole number of bytes")])
        return cls((shape[0], shape[1]), datatype, size, data)

    def rows(self, raw: memoryview, standard: Standard) -> Float64:
        """Its elements, as float64, exactly. Raises InvalidRequest or InvalidRows."""
        count = self.shape[0] * self.shape[1]
        if len(raw) != (self.size or 0):
            raise InvalidRequest(
                [("inputs.parameters.binary_data_size", f"must be {len(raw)}: so many bytes are there")]
            )
        if self.size is not None:
            expected = count * NUMBERS[self.datatype].itemsize
            if self.size != expected:
                message = f"must be {expected} for this shape and datatype"
                raise InvalidRequest([("inputs.parameters.binary_data_size", message)])
            return standard.read_array(from_bytes(raw, self.datatype, self.shape))
        flat = flattened(self.data, self.shape) if isinstance(self.data, list) else None
        if flat is None:
            message = f"must be a list of as many numbers as the shape says, or of as many lists of {self.shape[1]}"
            raise InvalidRequest([("inputs.data", message)])
        return self._floats(flat, standard) if self.datatype in FLOATS else self._integers(flat, standard)

    def _floats(self, flat: list[Any], standard: Standard) -> Float64:
        """Digits are taken as they stand, as in a native request; the datatype only bounds them."""
        rows = standard.read_flat(flat)
        if self.datatype != "FP64" and float(np.nanmax(np.abs(rows), initial=0.0)) > FLOATS[self.datatype]:
            raise InvalidRequest([("inputs.data", f"has a number that is too large for {self.datatype}")])
        return rows

    def _integers(self, flat: list[Any], standard: Standard) -> Float64:
        if {int}.issuperset(map(type, flat)):
            try:
                return standard.read_array(np.array(flat, NUMBERS[self.datatype]).reshape(self.shape))
            except OverflowError:
                pass
        raise InvalidRequest([("inputs.data", f"must be whole numbers in the range of {self.datatype}")])


def _wanted(listed: Any, binary: bool) -> tuple[Wanted, ...]:
    if listed is None:
        return ()
    if not (isinstance(listed, list) and all(isinstance(one, dict) for one in listed)):
        raise InvalidRequest([("outputs", "must be a list of objects with a name")])
    wanted = []
    for one in listed:
        check_names("outputs", one, _OUTPUT_FIELDS)
        if not isinstance(one.get("name"), str):
            raise InvalidRequest([("outputs.name", "must be a text")])
        parameters = read_object("outputs.parameters", one.get("parameters"))
        check_names("outputs.parameters", parameters, ("binary_data", "content_type"))
        wanted.append(
            Wanted(one["name"], read_truth("outputs.parameters.binary_data", parameters.get("binary_data", binary)))
        )
    return tuple(wanted)


def _options(parameters: dict[str, Any]) -> dict[str, Any] | None:
    """The native options that the parameters are; None where they ask for no sampling."""
    options = {option: parameters[name] for name, option in _OPTIONS.items() if name in parameters}
    if not {"seed", "samples"} & options.keys() and options.get("method") != "moments":
        if options:
            name = _PARAMETERS[next(iter(options))]
            raise InvalidRequest([(f"parameters.{name}", "is about sampling: send seed or samples, too")])
        return None
    if isinstance(seed := options.get("seed"), str):
        if not _SEED.fullmatch(seed) or int(seed) > MAX_SEED:
            raise InvalidRequest([("parameters.seed", f"must be a whole number from 0 to {MAX_SEED}, or its digits")])
        options["seed"] = int(seed)
    if isinstance(options.get("samples"), dict):  # the protocol's parameters are texts, numbers and truths
        raise InvalidRequest([("parameters.samples", "must be a whole number; targets are for /v1")])
    if "quantiles" in options:
        options["quantiles"] = _quantiles(options["quantiles"])
    return options


def _quantiles(text: Any) -> list[Any]:
    """The numbers of a text like "0.05,0.5", by the grammar of JSON."""
    try:
        if isinstance(text, str):
            listed: list[Any] = orjson.loads(f"[{text}]")
            return listed
    except orjson.JSONDecodeError:
        pass
    message = f"must be a text of at most {MAX_QUANTILES} numbers above 0 and below 1, with commas between them"
    raise InvalidRequest([("parameters.quantiles", message)])


def _timeout(parameters: dict[str, Any]) -> float | None:
    """Milliseconds in the queue; the protocol counts microseconds, and 0 is no limit of the caller's."""
    sent = parameters.get("timeout", 0)
    if type(sent) is not int or not 0 <= sent <= LONGEST_TIMEOUT:
        raise InvalidRequest(
            [("parameters.timeout", f"must be a whole number of microseconds, at most {LONGEST_TIMEOUT}")]
        )
    return sent / 1e3 or None


def _as_parameter(field: str) -> str:
    """What a native complaint is about, as it is called here."""
    option, bracket, place = field.partition("[")
    return f"parameters.{_PARAMETERS[option]}{bracket}{place}" if option in _PARAMETERS else field


def read_object(place: str, value: Any) -> dict[str, Any]:
    """An object that may be left out, or be null, as some clients have it. Raises InvalidRequest."""
    if not (value is None or isinstance(value, dict)):
        raise InvalidRequest([(place, "must be an object")])
    return value or {}


def read_truth(place: str, value: Any) -> bool:
    """True or false, and nothing like it. Raises InvalidRequest."""
    if not isinstance(value, bool):
        raise InvalidRequest([(place, "must be true or false")])
    return value


def check_names(place: str, found: dict[str, Any], known: Collection[str]) -> None:
    """Refuses what is misspelt: without its seed a sampling would be a prediction. Raises InvalidRequest."""
    if unknown := len(found.keys() - set(known)):
        plural = "s" if unknown > 1 else ""
        raise InvalidRequest([(place, f"has {unknown} unknown name{plural}; known are {', '.join(known)}")])
