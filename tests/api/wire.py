"""Requests that work, and what every problem must look like."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import httpx
import orjson

ROW = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]
NAMES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
TINY_ROWS = [[0.5, -1.0, -4.5], [2.0, 3.0, -5.25], [-1.5, 0.0, -5.0]]
SAMPLE = "/v1/models/diabetes/sample"
PREDICT = "/v1/models/diabetes/predict"
JSON = {"Content-Type": "application/json"}


def send(client: httpx.Client, path: str, body: bytes, **headers: str) -> httpx.Response:
    """Posts these very bytes as JSON."""
    return client.post(path, content=body, headers=JSON | {name.replace("_", "-"): headers[name] for name in headers})


def ask(client: httpx.Client, path: str, **fields: Any) -> dict[str, Any]:
    """Posts these fields; the answer, which must be a good one, parsed by a reader that takes no NaN."""
    answer = send(client, path, orjson.dumps(fields))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    parsed: dict[str, Any] = orjson.loads(answer.content)
    return parsed


def rows_of(client: httpx.Client, model: str, count: int = 3) -> list[list[float]]:
    """Different rows, all within the range that the model saw in training."""
    inputs = client.get(f"/v1/models/{model}").json()["inputs"]
    return [
        [
            low + (high - low) * ((7 * row + 3 * column) % 11) / 10
            for column, (low, high) in enumerate(feature["range"] for feature in inputs)
        ]
        for row in range(count)
    ]


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem in an answer, checked for all that the contract says of every problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 4096
    problem: dict[str, Any] = orjson.loads(response.content)
    assert list(problem) == ["type", "title", "status", "detail", "errors", "request_id"]
    assert problem["type"] == "about:blank" or problem["type"].startswith("urn:penumbra:problem:")
    assert problem["title"] == HTTPStatus(status).phrase
    assert problem["status"] == status
    assert problem["detail"]
    assert len(problem["errors"]) <= 10
    for error in problem["errors"]:
        assert list(error) == ["field", "message"]
        assert error["field"]
        assert error["message"]
    assert problem["request_id"]
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def events(text: str) -> list[tuple[str, bytes]]:
    """The (name, data) of every event in a finished stream."""
    found = []
    *whole, rest = text.split("\n\n")
    assert rest == ""
    for event in whole:
        name, data = event.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        found.append((name.removeprefix("event: "), data.removeprefix("data: ").encode()))
    return found


def streamed(client: httpx.Client, model: str, **fields: Any) -> list[tuple[str, bytes]]:
    """The events that a good request gets."""
    answer = send(client, f"/v1/models/{model}/sample/stream", orjson.dumps(fields))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    return events(answer.text)
