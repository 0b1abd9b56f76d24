"""Requests of the protocol byte by byte, as a broken client may send them. Knows nothing of what is answered."""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np
import orjson

from tests.api.live import Server
from tests.api.wire import ROW

INFER = "/v2/models/diabetes/infer"
LENGTH = "Inference-Header-Content-Length"
FP64 = np.array([ROW]).tobytes()
FLAT = {"name": "inputs", "shape": [1, 10], "datatype": "FP64", "data": ROW}
RAW = {"name": "inputs", "shape": [1, 10], "datatype": "FP64", "parameters": {"binary_data_size": len(FP64)}}


class Sent:
    """A request as it goes over the wire: its JSON, what follows it, and headers; a None leaves one out."""

    def __init__(self, fields: Any, raw: bytes = b"", **headers: str | None) -> None:
        text = fields if isinstance(fields, bytes) else orjson.dumps(fields)
        self.body = text + raw
        length = {LENGTH: str(len(text))} if raw else {}
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        self.headers = {name: value for name, value in {**length, **changed}.items() if value is not None}


def post(server: Server, path: str, sent: Sent) -> tuple[int, dict[str, str], bytes]:
    """Sends exactly that, which HTTP libraries would add to: status, headers and body of the answer."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    try:
        connection.putrequest("POST", path, skip_accept_encoding=True)
        for name, value in {"Content-Length": str(len(sent.body)), **sent.headers}.items():
            connection.putheader(name, value)
        connection.endheaders(sent.body)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def mean(told: tuple[int, dict[str, str], bytes]) -> Any:
    """The tensor `mean` of a good answer in JSON."""
    status, headers, body = told
    assert (status, headers["content-type"]) == (200, "application/json"), body
    (found,) = (each["data"] for each in json.loads(body)["outputs"] if each["name"] == "mean")
    return found


def tensor(**changed: Any) -> Sent:
    """A request whose tensor differs in this; a None leaves a field out."""
    return Sent({"inputs": [{name: value for name, value in {**FLAT, **changed}.items() if value is not None}]})


def raw(size: Any, raw: bytes = FP64, **changed: Any) -> Sent:
    """A request whose tensor says that it has so many bytes, with these."""
    return Sent({"inputs": [{**RAW, **changed, "parameters": {"binary_data_size": size}}]}, raw)


def asking(**fields: Any) -> Sent:
    """A request that also says this."""
    return Sent({"inputs": [FLAT], **fields})


def with_parameters(**parameters: Any) -> Sent:
    """A request with these parameters."""
    return asking(parameters=parameters)


def with_length(length: str | None) -> Sent:
    """A request of bytes that says that its JSON has this length."""
    return Sent({"inputs": [RAW]}, FP64, Inference_Header_Content_Length=length)
