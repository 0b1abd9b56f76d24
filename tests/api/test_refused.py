"""What is refused before or beside its meaning: syntax, media, headers, paths, sizes, and our own bugs."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.inside import running
from tests.api.live import Server
from tests.api.mistakes import (
    DEFAULTS,
    NAMED,
    VALUES,
    assert_no_echo,
    complaints,
    with_inputs,
    with_option,
    with_value,
)
from tests.api.wire import NAMES, PREDICT, ROW, SAMPLE, TINY_ROWS, assert_problem, send

GOOD = with_option('"seed": 1')
MALFORMED = {
    "empty": (b"", "the body is empty: send a JSON object"),
    "blank": (b" \r\n\t ", "the body is empty: send a JSON object"),
    "a list": (b"[31415]", "the body must be a JSON object"),
    "null": (b"null", "the body must be a JSON object"),
    "a text": (b'"canary"', "the body must be a JSON object"),
    "NaN": (b"NaN", "the body must be a JSON object"),
    "cut short": (GOOD[:-1], f"the body is not JSON: Expecting ',' delimiter (line 1, column {len(GOOD)})"),
    "more than one": (GOOD + b' "canary"', f"the body is not JSON: Extra data (line 1, column {len(GOOD) + 2})"),
    "trailing comma": (GOOD[:-1] + b",}", "the body is not JSON: "),
    "single quotes": (
        b"{\n'canary': 1}",
        "the body is not JSON: Expecting property name enclosed in double quotes (li",
    ),
    "bare word": (with_value("canary"), "the body is not JSON: Expecting value (line 1, column 20)"),
    "comment": (GOOD + b"// canary", "the body is not JSON: Extra data"),
    "leading zero": (with_option('"seed": 031415'), "the body is not JSON: Expecting ',' delimiter"),
    "hexadecimal": (with_option('"seed": 0x31415'), "the body is not JSON: Expecting ',' delimiter"),
    "plus sign": (with_option('"seed": +31415'), "the body is not JSON: Expecting value"),
    "control character": (b'{"inputs": "canary\n"}', "the body is not JSON: Invalid control character"),
    "bad escape": (b'{"inputs": "canary\\x"}', "the body is not JSON: Invalid \\escape"),
    "form": (b"inputs=canary&seed=31415", "the body is not JSON: Expecting value (line 1, column 1)"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "the body is not JSON: Unexpected UTF-8 BOM"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "the body is not UTF-8"),
    "UTF-16 unmarked": (GOOD.decode().encode("utf-16-le"), "the body is not JSON: "),
    "UTF-32": (GOOD.decode().encode("utf-32"), "the body is not UTF-8"),
    "Latin-1": ('{"inputs": "canary é"}'.encode("latin-1"), "the body is not UTF-8"),
    "surrogate in UTF-8": (b'{"inputs": "canary \xed\xa0\x80"}', "the body is not UTF-8"),
    "seed twice": (with_option('"seed": 31415, "seed": 31416'), "an object has the same key twice"),
    "seed twice, escaped": (with_option('"seed": 31415, "\\u0073eed": 1'), "an object has the same key twice"),
    "unknown twice": (with_option('"canary": 1, "canary": 1'), "an object has the same key twice"),
    "input twice": (with_inputs(f'[{json.dumps(NAMED)[:-1]}, "age": 31415}}]'), "an object has the same key twice"),
    "input twice, later row": (
        with_inputs(f'[{json.dumps(NAMED)}, {json.dumps(NAMED)[:-1]}, "s6": 31415}}]'),
        "an object has the same key twice",
    ),
    "twice, deep down": (with_option('"seed": [[{"canary": {"a": 1, "a": 2}}]]'), "an object has the same key twice"),
    "deep lists": (b"[" * 100_000, "the body is nested too deeply"),
    "deep lists, closed": (with_inputs("[" * 100_000 + "]" * 100_000), "the body is nested too deeply"),
    "deep objects": (b'{"a":' * 100_000, "the body is nested too deeply"),
}


@pytest.mark.parametrize("path", [PREDICT, SAMPLE])
@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_not_json_is_told_where(server: Server, path: str, kind: str) -> None:
    """400 says what kind of thing is wrong, and where that helps the place; the connection is closed."""
    body, detail = MALFORMED[kind]
    response = send(server.client, path, body)
    problem = assert_problem(response, 400)
    assert problem["type"] == "urn:penumbra:problem:malformed-request"
    assert problem["detail"].startswith(detail)
    assert problem["errors"] == []
    assert response.headers["connection"] == "close"
    assert_no_echo(response)


@pytest.mark.parametrize("kind", [kind for kind in MALFORMED if kind != "NaN"])
def test_what_is_not_json_is_refused_at_any_size(server: Server, kind: str) -> None:
    """Behind a third of a megabyte of blanks the same bodies are 400 too, without an echo of them."""
    body, detail = MALFORMED[kind]
    response = send(server.client, SAMPLE, b" " * 300_000 + body)
    problem = assert_problem(response, 400)
    assert problem["type"] == "urn:penumbra:problem:malformed-request"
    if "twice" in detail or "nested" in detail:
        assert problem["detail"] == detail
    assert_no_echo(response)


@pytest.mark.parametrize("value", VALUES, ids=[value[:12] for value in VALUES])
def test_numbers_that_are_not_finite_are_refused_at_any_size(server: Server, value: str) -> None:
    """In a body of a third of a megabyte they are 422 as well, and said to be not finite."""
    response = send(server.client, SAMPLE, b" " * 300_000 + with_value(value))
    ((_, message),) = complaints(response)
    assert "finite" in message
    assert_no_echo(response)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "canary/json"},
        {"Content-Type": "multipart/form-data; boundary=canary"},
    ],
)
def test_a_body_that_is_not_called_json_is_415(server: Server, sent: dict[str, str]) -> None:
    """A missing or other Content-Type is refused, with the header that is wanted in the detail."""
    response = server.client.post(SAMPLE, content=GOOD, headers=sent)
    problem = assert_problem(response, 415)
    assert "send Content-Type: application/json" in problem["detail"]
    assert_no_echo(response)


@pytest.mark.parametrize("sent", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"])
def test_what_is_called_json_is_taken(server: Server, sent: str) -> None:
    """Parameters, capitals and JSON's derived types are JSON."""
    assert server.client.post(SAMPLE, content=GOOD, headers={"Content-Type": sent}).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "canary", "gzip, identity"])
def test_compressed_bodies_are_415_and_not_inflated(server: Server, encoding: str) -> None:
    """A Content-Encoding is refused by its name, whatever the bytes are."""
    bomb = gzip.compress(b" " * 2**20 + GOOD)
    response = send(server.client, SAMPLE, bomb, Content_Encoding=encoding)
    assert "must not be compressed" in assert_problem(response, 415)["detail"]
    assert_no_echo(response)


@pytest.mark.parametrize(
    "deadline", ["0", "-1", "1.5", "1e3", "canary", "86400001", "31415" * 20, "9" * 5000, "5, 6", "٣", ""]
)
def test_a_bad_deadline_is_400(server: Server, deadline: str) -> None:
    """X-Deadline-Ms that is not a whole number of milliseconds up to a day is refused, with the rule."""
    response = send(server.client, SAMPLE, GOOD, **{"X-Deadline-Ms": deadline.encode()})  # type: ignore[arg-type]
    assert assert_problem(response, 400)["detail"] == "X-Deadline-Ms must be a whole number from 1 to 86400000"
    assert_no_echo(response)


@pytest.mark.parametrize("deadline", ["86400000", "0060000"])
def test_a_good_deadline_is_taken(server: Server, deadline: str) -> None:
    """A day is not too long, and leading zeros are only zeros."""
    assert send(server.client, SAMPLE, GOOD, X_Deadline_Ms=deadline).status_code == 200


@pytest.mark.parametrize("path", ["/canary", "/v1", "/v1/models/", "/v1/models/diabetes/versions", "/v1//models"])
def test_an_unknown_path_is_404(server: Server, path: str) -> None:
    """A path that nothing answers to, a trailing slash included, is a problem like any other and points to /docs."""
    for response in (server.client.get(path), send(server.client, path, GOOD)):
        assert "/docs" in assert_problem(response, 404)["detail"]
        assert_no_echo(response)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", PREDICT, "POST"),
        ("GET", "/v1/models/diabetes/versions/1/sample", "POST"),
        ("PUT", SAMPLE, "POST"),
        ("OPTIONS", SAMPLE, "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/diabetes", "GET"),
        ("PATCH", "/health/ready", "GET"),
        ("TRACE", SAMPLE, "POST"),
    ],
)
def test_a_wrong_verb_is_405_with_allow(server: Server, method: str, path: str, allow: str) -> None:
    """The answer says in its Allow header which verbs the path takes, and in its detail to look there."""
    response = server.client.request(method, path)
    assert "Allow header" in assert_problem(response, 405)["detail"]
    assert response.headers["allow"] == allow
    assert_no_echo(response)


@pytest.fixture
def connection(server: Server) -> Iterator[HTTPConnection]:
    """A connection on which a request can be left unfinished."""
    url = httpx.URL(server.url)
    opened = HTTPConnection(url.host, url.port, timeout=60)
    yield opened
    opened.close()


def received(connection: HTTPConnection) -> httpx.Response:
    """The answer to what was sent so far."""
    answer = connection.getresponse()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def test_a_body_that_is_announced_as_too_large_is_not_waited_for(connection: HTTPConnection) -> None:
    """A Content-Length over the limit is 413 before a byte of the body is read; the connection is closed."""
    for length in ("200000000", "9" * 18):
        connection.putrequest("POST", SAMPLE)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        response = received(connection)
        assert assert_problem(response, 413)["detail"] == f"the body has more than {DEFAULTS.max_body_bytes} bytes"
        assert response.headers["connection"] == "close"


def test_a_body_that_grows_too_large_is_cut_off(connection: HTTPConnection) -> None:
    """A chunked body is 413 as soon as it passes the limit, though it goes on."""
    connection.putrequest("POST", SAMPLE)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    # All that is sent is read before the limit is passed: an early end would reset the connection.
    connection.send(b"%x\r\n%b\r\n" % (DEFAULTS.max_body_bytes, b" " * DEFAULTS.max_body_bytes))
    connection.send(b"1\r\n \r\n")
    assert (
        assert_problem(received(connection), 413)["detail"] == f"the body has more than {DEFAULTS.max_body_bytes} bytes"
    )


def test_a_body_of_just_the_limit_is_read(server: Server) -> None:
    """As many bytes as are allowed, blanks included, are not too many, neither by length nor in chunks."""
    body = GOOD + b" " * (DEFAULTS.max_body_bytes - len(GOOD))
    assert send(server.client, SAMPLE, body).status_code == 200
    chunks = (body[start : start + 2**20] for start in range(0, len(body), 2**20))
    chunked = server.client.post(SAMPLE, content=chunks, headers={"Content-Type": "application/json"})
    assert chunked.status_code == 200


def test_requests_over_the_limits_are_refused_by_their_sizes(server: Server) -> None:
    """Rows, rows × samples, and draws to return are bounded; each message names the field and the limit."""
    over: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
        (
            PREDICT,
            {"inputs": [[]] * (DEFAULTS.max_rows + 1)},
            ("inputs", f"must have at most {DEFAULTS.max_rows} rows"),
        ),
        (
            SAMPLE,
            {"inputs": [ROW] * 1000, "samples": DEFAULTS.max_evaluations // 1000 + 1},
            ("samples", f"times rows must be at most {DEFAULTS.max_evaluations}; split the request"),
        ),
        (
            "/v1/models/digits/sample",
            {"inputs": [[0] * 64] * 1000, "samples": DEFAULTS.max_numbers // 10_000 + 1},
            ("samples", f"times rows times outputs must be at most {DEFAULTS.max_numbers}; split the request"),
        ),
        (
            SAMPLE,
            {"inputs": [ROW] * 1000, "samples": DEFAULTS.max_returned_draws // 1000 + 1, "return_draws": True},
            ("return_draws", f"would return more than {DEFAULTS.max_returned_draws} numbers"),
        ),
    ]
    for path, body, complaint in over:
        assert complaints(server.client.post(path, json=body)) == [complaint]


async def test_the_limits_are_the_settings(tiny_store: Path) -> None:
    """Each limit is taken from its setting: just at it a request is good, and one more is too many."""
    limits = {"max_rows": 3, "max_samples": 8, "max_evaluations": 21, "max_numbers": 45, "max_returned_draws": 12}
    one, all_rows = {"inputs": TINY_ROWS[:1]}, {"inputs": TINY_ROWS}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("silent", {**all_rows, "samples": 1}, ""),
        ("silent", {"inputs": [*TINY_ROWS, TINY_ROWS[0]], "samples": 1}, "inputs"),
        ("silent", {**one, "samples": 8}, ""),
        ("silent", {**one, "samples": 9}, "samples"),
        ("silent", {**all_rows, "samples": 7}, ""),  # 21 evaluations
        ("silent", {**all_rows, "samples": 8}, "samples"),
        ("colours", {**all_rows, "samples": 5}, ""),  # 45 numbers
        ("colours", {**all_rows, "samples": 6}, "samples"),
        ("silent", {**all_rows, "samples": 2, "return_draws": True}, ""),  # 12 draws
        ("silent", {**all_rows, "samples": 3, "return_draws": True}, "return_draws"),
    ]
    async with running(store=tiny_store, **limits) as (_, client):
        for model, body, field in cases:
            answer = await client.post(f"/v1/models/{model}/sample", json=body)
            found = "" if answer.status_code == 200 else complaints(answer)[0][0]
            assert found == field, body


@pytest.mark.parametrize(
    "row",
    [[31415] * 9, ["canary"] * 10, "canary", {"canary": 31415}, dict.fromkeys(NAMES, "canary")],
    ids=["short", "values", "text", "names", "named values"],
)
@pytest.mark.parametrize("count", [DEFAULTS.max_rows, 20_000])
def test_thousands_of_bad_rows_get_a_short_answer(server: Server, row: Any, count: int) -> None:
    """However many rows are wrong, the answer has at most ten complaints, under 4 KB, and none of the rows."""
    response = server.client.post(SAMPLE, json={"inputs": [row] * count})
    assert len(complaints(response)) == (10 if count <= DEFAULTS.max_rows else 1)
    assert_no_echo(response)


def test_long_names_do_not_make_long_answers(server: Server) -> None:
    """Thousands of unknown fields and a name of a megabyte are answered in under 4 KB."""
    many = {f"canary{i}": i for i in range(20_000)}
    for extra in (many, {"canary" * 2**17: 1}):
        for body in ({"inputs": [ROW], **extra}, {"inputs": [{**NAMED, **extra}]}, {"inputs": [ROW], "seed": extra}):
            response = server.client.post(SAMPLE, json=body)
            assert len(complaints(response)) == 1
            assert_no_echo(response)


async def test_a_bug_is_500_with_the_request_id_and_nothing_else(tiny_store: Path) -> None:
    """What a bug has to say stays in the log: the caller gets an id to report, and the next request is served."""
    path, body = "/v1/models/silent/predict", {"inputs": TINY_ROWS}

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("canary 31415 /secret/path")

    async with running(store=tiny_store) as (app, client):
        inference = app.state.inference
        inference.predict, whole = fail, inference.predict
        for sent in ("mine-1", None):
            response = await client.post(path, json=body, headers={"X-Request-ID": sent} if sent else {})
            problem = assert_problem(response, 500)
            request_id = problem["request_id"]
            assert request_id == sent or uuid.UUID(request_id)
            assert problem["detail"] == f"an internal error; please report it with the request id {request_id}"
            assert problem["errors"] == []
            assert response.headers["connection"] == "close"
            assert_no_echo(response)
        inference.predict = whole
        assert (await client.post(path, json=body)).status_code == 200


def test_a_mistake_costs_nobody_else_anything(server: Server) -> None:
    """After bad requests of every kind a good one is answered as before them."""
    before = send(server.client, SAMPLE, GOOD)
    assert before.status_code == 200
    for body in (GOOD[:-1], with_value("NaN"), with_option('"seed": 1e3'), b"[" * 100_000):
        assert send(server.client, SAMPLE, body).status_code in {400, 422}
    assert send(server.client, SAMPLE, GOOD).content == before.content
