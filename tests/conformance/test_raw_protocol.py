"""The protocol byte by byte: what no client sends, or only a broken one, over a real socket."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import orjson
import pytest

from tests.api.live import Server
from tests.api.mistakes import CANARIES
from tests.api.wire import PREDICT, ROW, SAMPLE, ask
from tests.conformance.mistakes import BAD
from tests.conformance.raw import FLAT, FP64, INFER, RAW, Sent, asking, mean, post, with_parameters

GOOD = {
    "no Content-Type": Sent({"inputs": [FLAT]}),
    "no Content-Type, bytes": Sent({"inputs": [RAW]}, FP64),
    "JSON": Sent({"inputs": [FLAT]}, Content_Type="application/json"),
    "JSON with a character set": Sent({"inputs": [FLAT]}, Content_Type="application/json; charset=utf-8"),
    "bytes": Sent({"inputs": [RAW]}, FP64, Content_Type="application/octet-stream"),
    "JSON that curl calls a form": Sent({"inputs": [FLAT]}, Content_Type="application/x-www-form-urlencoded"),
    "bytes that are called JSON": Sent({"inputs": [RAW]}, FP64, Content_Type="application/json"),
    "a length of all that there is": Sent(
        {"inputs": [FLAT]}, Inference_Header_Content_Length=str(len(orjson.dumps({"inputs": [FLAT]})))
    ),
    "nested data": Sent({"inputs": [{**FLAT, "data": [ROW]}]}),
    "the model's name, too": Sent({"model_name": "diabetes", "model_version": "1", "inputs": [FLAT]}),
    "nothing where something may be": Sent({"id": None, "parameters": None, "outputs": None, "inputs": [FLAT]}),
    "no outputs named": Sent({"outputs": [], "inputs": [FLAT]}),
    "tags of client codecs": Sent(
        {
            "parameters": {"content_type": "np", "headers": None},
            "inputs": [{**FLAT, "parameters": {"content_type": "np"}}],
        }
    ),
    "gzip": Sent(gzip.compress(orjson.dumps({"inputs": [FLAT]})), Content_Encoding="gzip"),
    "deflate": Sent(zlib.compress(orjson.dumps({"inputs": [FLAT]})), Content_Encoding="deflate"),
    "gzip around bytes": Sent(
        gzip.compress(orjson.dumps({"inputs": [RAW]}) + FP64),
        Content_Encoding="gzip",
        Inference_Header_Content_Length=str(len(orjson.dumps({"inputs": [RAW]}))),
    ),
}


@pytest.mark.parametrize("sent", GOOD.values(), ids=GOOD)
def test_what_is_understood(server: Server, sent: Sent) -> None:
    """One row in any of these spellings is answered as natively."""
    native = ask(server.client, PREDICT, inputs=[ROW])
    assert mean(post(server, INFER, sent)) == [value for row in native["mean"] for value in row]


def assert_error(told: tuple[int, dict[str, str], bytes], status: int, message: str) -> None:
    """An error as the protocol has it, small, with an id, and without an echo."""
    found, headers, body = told
    assert found == status, body
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    assert len(body) < 4096
    error = json.loads(body)
    assert list(error) == ["error"]
    assert message in error["error"]
    assert not [canary for canary in CANARIES if canary in error["error"]]


@pytest.mark.parametrize(("sent", "status", "message"), BAD.values(), ids=BAD)
def test_what_is_refused(server: Server, sent: Sent, status: int, message: str) -> None:
    """Each of these is refused with its status and a message that says what is wrong and repeats nothing."""
    assert_error(post(server, INFER, sent), status, message)
    assert server.client.get("/v2/health/ready").json() == {"live": True, "ready": True}


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/none", 404, "there is no model of that name; there are: breast-cancer"),
        ("GET", "/v2/models/diabetes/versions/2", 404, "diabetes has no such version; there are: 1"),
        ("GET", "/v2/models/none/ready", 404, "there is no model of that name"),
        ("GET", "/v2/models/none/config", 404, "there is no model of that name"),
        ("GET", "/v2/models/none/stats", 404, "there is no model of that name"),
        ("GET", "/v2/models/%2e%2e", 404, "there is no"),
        ("GET", "/v2/models/..%2f..%2fetc", 404, "there is nothing at this path"),
        ("GET", "/v2/canary", 404, "there is nothing at this path"),
        ("GET", "/v2/models/diabetes/infer", 405, "this path does not take this method"),
        ("POST", "/v2/models/diabetes", 405, "this path does not take this method"),
        ("POST", "/v2/systemsharedmemory/region/canary/register", 404, "there is nothing at this path"),
    ],
)
def test_errors_of_other_addresses_have_the_form_too(
    server: Server, method: str, path: str, status: int, message: str
) -> None:
    """Whatever is wrong under /v2 is told as the protocol tells it."""
    answer = server.client.request(method, path)
    assert_error((answer.status_code, dict(answer.headers), answer.content), status, message)


def test_native_errors_keep_their_form(server: Server) -> None:
    """A path that only begins alike is not the protocol's."""
    assert server.client.get("/v20").headers["content-type"] == "application/problem+json"
    assert server.client.post(PREDICT, json={}).status_code == 422


def test_an_answer_in_bytes_says_where_they_begin(server: Server) -> None:
    """JSON, then each tensor in its order, without padding; the header has the length of the JSON."""
    sent = Sent(
        {"inputs": [RAW], "parameters": {"binary_data_output": True, "seed": 7, "samples": 3, "draws": True}}, FP64
    )
    status, headers, body = post(server, INFER, sent)
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    length = int(headers["inference-header-content-length"])
    told, left = json.loads(body[:length]), body[length:]
    native = ask(server.client, SAMPLE, inputs=[ROW], seed=7, samples=3, return_draws=True)
    for each in told["outputs"]:
        size = each["parameters"]["binary_data_size"]
        assert "data" not in each
        if each["name"] in native:
            assert np.frombuffer(left[:size], "<f8").reshape(each["shape"]).tolist() == native[each["name"]]
        left = left[size:]
    assert left == b""
    assert told["outputs"][-1]["name"] == "draws"


def test_labels_in_bytes_have_their_lengths(server: Server) -> None:
    """A text is its length in four bytes, little-endian, and itself."""
    pixels = {"name": "inputs", "shape": [1, 64], "datatype": "UINT8", "data": [0] * 64}
    wanted = [{"name": "labels", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    status, headers, body = post(server, "/v2/models/digits/infer", Sent({"inputs": [pixels], "outputs": wanted}))
    assert status == 200
    length = int(headers["inference-header-content-length"])
    labels, probabilities = json.loads(body[:length])["outputs"]
    assert labels == {"name": "labels", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    winner = str(int(np.argmax(probabilities["data"])))
    assert body[length:] == b"\1\0\0\0" + winner.encode()


def test_an_output_overrides_what_the_request_says_of_all(server: Server) -> None:
    """With bytes for all outputs, one may be in JSON; the answer then is in bytes if any of it is."""
    parameters = {"binary_data_output": True}
    text = {"name": "mean", "parameters": {"binary_data": False}}
    _, headers, body = post(server, INFER, asking(parameters=parameters, outputs=[text]))
    assert headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in headers
    assert json.loads(body)["outputs"][0]["data"]
    _, headers, body = post(server, INFER, asking(parameters=parameters, outputs=[text, {"name": "aleatoric_std"}]))
    assert headers["content-type"] == "application/octet-stream"
    assert len(body) == int(headers["inference-header-content-length"]) + 8


def test_bodies_may_come_in_chunks(server: Server) -> None:
    """A request without a Content-Length is read all the same."""
    sent = GOOD["bytes"]
    pieces = (sent.body[start : start + 7] for start in range(0, len(sent.body), 7))
    answer = server.client.post(INFER, content=pieces, headers=sent.headers)
    assert answer.status_code == 200
    assert "mean" in answer.text


def test_the_same_seeded_request_has_the_same_bytes_and_tag(server: Server) -> None:
    """Predictions and seeded samplings carry a tag, which spares the answer; one without a seed does not."""
    for sent in (GOOD["bytes"], with_parameters(seed=7), asking(id="mine", parameters={"seed": 7})):
        first, second = (post(server, INFER, sent) for _ in range(2))
        assert first[2] == second[2]
        assert first[1]["etag"] == second[1]["etag"]
        assert first[1]["cache-control"] == "private"
        again = Sent(sent.body, **{**sent.headers, "If_None_Match": first[1]["etag"]})
        status, _, body = post(server, INFER, again)
        assert (status, body) == (304, b"")
    unseeded = post(server, INFER, with_parameters(samples=3))[1]
    assert unseeded["cache-control"] == "no-store"
    assert "etag" not in unseeded
    tags = {
        post(server, INFER, sent)[1]["etag"]
        for sent in (with_parameters(seed=7), asking(id="a", parameters={"seed": 7}))
    }
    assert len(tags) == 2


def test_answers_carry_what_native_ones_do(server: Server) -> None:
    """The request's id, and how long it waited and was computed."""
    _, headers, _ = post(server, INFER, Sent({"inputs": [FLAT]}, X_Request_ID="mine"))
    assert headers["x-request-id"] == "mine"
    assert headers["server-timing"].startswith("queue;dur=")


def test_the_index_takes_any_body_that_says_nothing(server: Server) -> None:
    """Empty, blank, or an empty object; and what it does not know is refused."""
    for body in (b"", b" \n", b"{}", b'{"ready": false}'):
        status, _, told = post(server, "/v2/repository/index", Sent(body))
        assert status == 200
        assert [entry["name"] for entry in json.loads(told)] == [
            "breast-cancer",
            "diabetes",
            "digits",
            "digits-ensemble",
            "mnist-ff",
        ]
    for body, message in (
        (b"[]", "the body must be a JSON object"),
        (b'{"canary": 1}', "body: has 1 unknown name; known are ready"),
        (b'{"ready": 1}', "ready: must be true or false"),
        (b" " * (1 << 17) + b"{}", "the body has more than 65536 bytes"),
    ):
        status = 413 if message.startswith("the body has") else 400
        assert_error(post(server, "/v2/repository/index", Sent(body)), status, message)


def test_files_and_configurations_can_not_be_loaded(server: Server) -> None:
    """A model is what the store has of it: nobody sends one, or says where one is."""
    for parameters in ({"config": "{}"}, {"file:1/model.pt": "canary"}, {"url": "http://canary"}):
        sent = Sent({"parameters": parameters})
        message = "parameters: has 1 unknown name; known are unload_dependents"
        assert_error(post(server, "/v2/repository/models/diabetes/load", sent), 400, message)
    for name in ("none", "%2e%2e", "..%5c", "a" * 65):
        for verb in ("load", "unload"):
            told = post(server, f"/v2/repository/models/{name}/{verb}", Sent(b""))
            assert_error(told, 404, "no model of that name")
