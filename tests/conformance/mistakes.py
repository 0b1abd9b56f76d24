"""What a request can get wrong: the request, the status that it gets, and the beginning or a part of the message."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import orjson

from service.settings import Settings
from tests.api.wire import ROW
from tests.conformance.raw import FLAT, FP64, RAW, Sent, asking, raw, tensor, with_length, with_parameters

MOST = Settings.model_construct().max_body_bytes
JSON_LENGTH = len(orjson.dumps({"inputs": [RAW]}))
BOMB = b" " * (MOST + 1)
SIZE = "inputs.parameters.binary_data_size: must be"
SHAPE = "inputs.shape: must be [rows, 10]"
DATA = "inputs.data: must be a list of as many numbers as the shape says, or of as many lists of 10"
LENGTHS = "Inference-Header-Content-Length must be the length of the JSON"
SEED = "parameters.seed: must be a whole number from 0 to 9007199254740991"
KIND = "inputs.datatype: must be one of FP16, FP32, FP64, BF16, INT8, "

BAD: dict[str, tuple[Sent, int, str]] = {
    # What the JSON's length can get wrong.
    "header length missing": (with_length(None), 400, "where bytes follow, send Inference-Header-Content-Length"),
    "header length a byte short": (with_length(str(JSON_LENGTH - 1)), 400, "the body is not JSON"),
    "header length a byte long": (with_length(str(JSON_LENGTH + 1)), 400, "the body is not JSON"),
    "header length 0": (with_length("0"), 400, LENGTHS),
    "header length negative": (with_length("-1"), 400, LENGTHS),
    "header length beyond the body": (with_length(str(JSON_LENGTH + len(FP64) + 1)), 400, LENGTHS),
    "header length absurd": (with_length("9" * 5000), 400, LENGTHS),
    "header length not a number": (with_length("canary"), 400, LENGTHS),
    "header length with a sign": (with_length(f"+{JSON_LENGTH}"), 400, LENGTHS),
    # What a tensor's bytes can get wrong.
    "short tensor": (raw(80, FP64[:-1]), 400, f"{SIZE} 79: so many bytes are there"),
    "short tensor, size true": (raw(79, FP64[:-1]), 400, f"{SIZE} 80 for this shape and datatype"),
    "long tensor": (raw(80, FP64 + b"\0"), 400, f"{SIZE} 81: so many bytes are there"),
    "no bytes at all": (raw(80, b""), 400, f"{SIZE} 0: so many bytes are there"),
    "bytes that no tensor claims": (Sent({"inputs": [FLAT]}, FP64), 400, f"{SIZE} 80: so many bytes are there"),
    "negative size": (raw(-80), 400, f"{SIZE} 80: so many bytes are there"),
    "size as a text": (raw("80"), 400, f"{SIZE} a whole number of bytes"),
    "size with a point": (raw(80.0), 400, f"{SIZE} a whole number of bytes"),
    "size is true": (raw(size=True), 400, f"{SIZE} a whole number of bytes"),
    "overlapping tensors": (
        Sent({"inputs": [RAW, RAW]}, FP64),
        400,
        "inputs: must be a list of one tensor, called inputs",
    ),
    "data and bytes": (
        Sent({"inputs": [{**FLAT, **RAW}]}, FP64),
        400,
        "inputs: must have either data or a binary_data_size",
    ),
    "NaN in bytes": (raw(80, struct.pack("<10d", *ROW[:9], np.nan)), 400, "inputs[0].s6: must be a finite number"),
    "infinity in bytes": (
        raw(80, struct.pack("<10d", -np.inf, *ROW[1:])),
        400,
        "inputs[0].age: must be a finite number",
    ),
    "integer beyond 2^53": (
        raw(80, struct.pack("<10q", 2**53 + 1, *[0] * 9), datatype="INT64"),
        400,
        "inputs[0].age: is an integer that float64 can't hold exactly",
    ),
    # Tensors that are not there, or are others.
    "no inputs": (Sent({}), 400, "inputs: must be a list of one tensor, called inputs"),
    "no tensor": (Sent({"inputs": []}), 400, "inputs: must be a list of one tensor, called inputs"),
    "inputs an object": (Sent({"inputs": FLAT}), 400, "inputs: must be a list of one tensor, called inputs"),
    "unknown input": (tensor(name="canary"), 400, "inputs.name: must be inputs: it is the only input"),
    "input without a name": (tensor(name=None), 400, "inputs.name: must be inputs"),
    "unknown output": (
        asking(outputs=[{"name": "canary"}]),
        400,
        "outputs: has a name that this model has no output for",
    ),
    "output twice": (asking(outputs=[{"name": "mean"}] * 2), 400, "outputs: has the same name twice"),
    "output without a name": (asking(outputs=[{}]), 400, "outputs.name: must be a text"),
    "outputs a text": (asking(outputs="mean"), 400, "outputs: must be a list of objects with a name"),
    "output of sampling": (
        asking(outputs=[{"name": "std"}]),
        400,
        "outputs: std comes of sampling: ask for it with param",
    ),
    "draws not asked for": (
        asking(outputs=[{"name": "draws"}], parameters={"samples": 2}),
        400,
        "outputs: draws must be asked for with the parameter of that name, too",
    ),
    "shared memory": (
        Sent({"inputs": [{**RAW, "parameters": {"shared_memory_region": "canary", "shared_memory_byte_size": 80}}]}),
        400,
        "inputs.parameters: has 2 unknown names; known are binary_data_size, content_type",
    ),
    # Datatype and shape.
    "wrong datatype": (tensor(datatype="BYTES", data=["canary"] * 10), 400, KIND),
    "truth is no number": (tensor(datatype="BOOL", data=[True] * 10), 400, KIND),
    "unknown datatype": (tensor(datatype="canary"), 400, KIND),
    "datatype in small letters": (tensor(datatype="fp64"), 400, KIND),
    "datatype a number": (tensor(datatype=64), 400, KIND),
    "no datatype": (tensor(datatype=None), 400, KIND),
    "wrong width": (tensor(shape=[1, 9], data=ROW[:9]), 400, SHAPE),
    "one dimension": (tensor(shape=[10]), 400, SHAPE),
    "three dimensions": (tensor(shape=[1, 1, 10]), 400, SHAPE),
    "no rows": (tensor(shape=[0, 10], data=[]), 400, SHAPE),
    "negative rows": (tensor(shape=[-1, 10]), 400, SHAPE),
    "rows with a point": (tensor(shape=[1.0, 10]), 400, SHAPE),
    "rows are true": (tensor(shape=[True, 10]), 400, SHAPE),
    "no shape": (tensor(shape=None), 400, SHAPE),
    "shape of an absurd size": (
        tensor(shape=[2**62, 10]),
        400,
        "inputs: must have at most 16384 rows",
    ),
    "too few data": (tensor(data=ROW[:9]), 400, DATA),
    "too many data": (tensor(data=[*ROW, 0.0]), 400, DATA),
    "ragged data": (tensor(data=[ROW[:9]]), 400, DATA),
    "nested too deeply": (tensor(data=[[ROW]]), 400, DATA),
    "data a text": (tensor(data="canary"), 400, DATA),
    "no data": (tensor(data=None), 400, "inputs: must have either data or a binary_data_size among its parameters"),
    "a text in data": (tensor(data=["canary", *ROW[1:]]), 400, "inputs[0].age: must be a number"),
    "null in data": (tensor(data=[None, *ROW[1:]]), 400, "inputs[0].age: must be a number"),
    "true in data": (tensor(data=[True, *ROW[1:]]), 400, "inputs[0].age: must be a number"),
    "too large for FP32": (
        tensor(datatype="FP32", data=[1e39, *ROW[1:]]),
        400,
        "inputs.data: has a number that is too",
    ),
    "a fraction in INT64": (tensor(datatype="INT64"), 400, "inputs.data: must be whole numbers in the range of INT64"),
    "300 in INT8": (
        tensor(datatype="INT8", data=[300, *[0] * 9]),
        400,
        "inputs.data: must be whole numbers in the range",
    ),
    "-1 in UINT64": (
        tensor(datatype="UINT64", data=[-1, *[0] * 9]),
        400,
        "inputs.data: must be whole numbers in the ra",
    ),
    # Parameters.
    "unknown parameter": (
        with_parameters(canary=31415),
        400,
        "parameters: has 1 unknown name; known are seed, samples,",
    ),
    "seed -1": (with_parameters(seed=-1), 400, SEED),
    "seed 2^53": (with_parameters(seed=2**53), 400, SEED),
    "seed 2^53 in digits": (with_parameters(seed=str(2**53)), 400, SEED),
    "seed with a point": (with_parameters(seed=7.0), 400, SEED),
    "seed with a point in digits": (with_parameters(seed="7.0"), 400, SEED),
    "seed with a leading zero": (with_parameters(seed="07"), 400, SEED),
    "seed with a sign": (with_parameters(seed="+7"), 400, SEED),
    "seed in other digits": (with_parameters(seed="٧"), 400, SEED),
    "seed empty": (with_parameters(seed=""), 400, SEED),
    "seed true": (with_parameters(seed=True), 400, SEED),
    "seed null": (with_parameters(seed=None), 400, SEED),
    "samples 0": (with_parameters(samples=0), 400, "parameters.samples: must be a whole number from 1"),
    "samples a text": (with_parameters(samples="100"), 400, "parameters.samples: must be a whole number from 1"),
    "too many samples": (with_parameters(samples=10**6), 400, "parameters.samples: must be at most 100000"),
    "option without sampling": (
        with_parameters(draws=True),
        400,
        "parameters.draws: is about sampling: send seed or samp",
    ),
    "draws a number": (with_parameters(samples=1, draws=1), 400, "parameters.draws: must be true or false"),
    "interval 1": (
        with_parameters(samples=2, interval=1),
        400,
        "parameters.interval: must be a number above 0 and below 1",
    ),
    "quantiles a list": (
        with_parameters(samples=2, quantiles=[0.5]),
        400,
        "parameters.quantiles: must be a text of at mos",
    ),
    "quantiles unreadable": (
        with_parameters(samples=2, quantiles="canary"),
        400,
        "parameters.quantiles: must be a text",
    ),
    "quantile nan": (
        with_parameters(samples=2, quantiles="0.5,nan"),
        400,
        "parameters.quantiles: must be a text of at m",
    ),
    "quantile 1": (
        with_parameters(samples=2, quantiles="0.5,1"),
        400,
        "parameters.quantiles[1]: must be a number above 0",
    ),
    "33 quantiles": (
        with_parameters(samples=2, quantiles=",".join(["0.5"] * 33)),
        400,
        "parameters.quantiles: must be a l",
    ),
    "timeout negative": (
        with_parameters(timeout=-1),
        400,
        "parameters.timeout: must be a whole number of microseconds",
    ),
    "binary_data_output a text": (
        with_parameters(binary_data_output="true"),
        400,
        "parameters.binary_data_output: must be",
    ),
    "no members": (with_parameters(samples=2, method="ensemble"), 409, "diabetes has no ensemble members"),
    "parameters a list": (asking(parameters=[]), 400, "parameters: must be an object"),
    # The JSON around all this.
    "id a number": (asking(id=31415), 400, "id: must be a text"),
    "id half a pair": (Sent(b'{"id": "\\ud800", "inputs": []}'), 400, "a text has half of a surrogate pair"),
    "unknown field": (asking(canary=1), 400, "body: has 1 unknown name; known are id, parameters, inputs, outputs"),
    "empty": (Sent(b""), 400, "the body is empty: send a JSON object"),
    "not JSON": (Sent(b"{canary"), 400, "the body is not JSON"),
    "a list": (Sent([]), 400, "the body must be a JSON object"),
    "the same key twice": (Sent(b'{"id": "a", "id": "canary", "inputs": []}'), 400, "an object has the same key twice"),
    "the same key twice, inside": (
        Sent(b'{"inputs": [{"name": "inputs"}], "parameters": {"seed": 1, "seed": 31415}}'),
        400,
        "an object has the same key twice",
    ),
    "NaN in JSON": (
        Sent(b'{"inputs": [{"name": "inputs", "shape": [1, 10], "datatype": "FP32", "data": [NaN]}]}'),
        400,
        DATA,
    ),
    "a form": (Sent(b"inputs=canary", Content_Type="application/x-www-form-urlencoded"), 400, "the body is not JSON"),
    "another media type": (
        Sent({"inputs": [FLAT]}, Content_Type="text/plain"),
        415,
        "the body must be JSON or bytes",
    ),
    "a deadline that is none": (Sent({"inputs": [FLAT]}, X_Deadline_Ms="canary"), 400, "X-Deadline-Ms must be a whole"),
    # Compression.
    "gzip bomb": (
        Sent(gzip.compress(BOMB), Content_Encoding="gzip"),
        413,
        f"the body has more than {MOST} bytes once it",
    ),
    "deflate bomb": (
        Sent(zlib.compress(BOMB), Content_Encoding="deflate"),
        413,
        f"the body has more than {MOST} bytes once",
    ),
    "gzip cut off": (Sent(gzip.compress(b"{}")[:-1], Content_Encoding="gzip"), 400, "the compressed body is cut off"),
    "gzip with more behind it": (
        Sent(gzip.compress(b"{}") + b"0", Content_Encoding="gzip"),
        400,
        "the compressed body is",
    ),
    "no gzip": (
        Sent({"inputs": [FLAT]}, Content_Encoding="gzip"),
        400,
        "the body is not compressed as its Content-Enc",
    ),
    "another encoding": (
        Sent({"inputs": [FLAT]}, Content_Encoding="br"),
        415,
        "the body may be compressed with gzip or d",
    ),
    "two encodings": (
        Sent({"inputs": [FLAT]}, Content_Encoding="gzip, gzip"),
        415,
        "the body may be compressed with gzip",
    ),
}
