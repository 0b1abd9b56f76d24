"""Streams: an answer that grows block by block, and ends as the answer that a request that waits for it gets."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest
from pydantic import TypeAdapter

from models.features import InvalidRows
from penumbra import schemas
from service import jobs
from service.blocks import BLOCK, ends
from tests.api.inside import running
from tests.api.live import Server
from tests.api.wire import ROW, TINY_ROWS, ask, assert_problem, events, rows_of, send, streamed

RUNNING = TypeAdapter(schemas.RunningRegressionSample | schemas.RunningClassSample)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("diabetes", {"samples": 100}),
        ("diabetes", {"samples": 1, "return_draws": True}),
        ("diabetes", {"samples": 333, "first_sample": 12, "quantiles": [0.1, 0.5], "interval": 0.5, "dropout": 0.4}),
        ("diabetes", {"samples": {"target_stderr": 1.0, "max": 1000}, "return_draws": True}),
        ("diabetes", {"samples": {"target_stderr": 1e-9, "min": 50, "max": 70}}),
        ("digits", {}),
        ("digits", {"samples": 320, "aggregate": "vote", "return_draws": True}),
        ("noisy", {"samples": 33}),
        ("silent", {"samples": 64}),
        ("colours", {"samples": {"target_stderr": 0.01, "min": 40}}),
    ],
    ids=str,
)
def test_a_stream_ends_with_the_answer_of_sample(
    servers: dict[str, Server], model: str, options: dict[str, Any]
) -> None:
    """Its last event's data are, byte for byte, the body that the same request to /sample gets."""
    server = servers[model]
    body = {"inputs": rows_of(server.client, model), "seed": 5, **options}
    waited = send(server.client, f"/v1/models/{model}/sample", orjson.dumps(body)).content
    *before, (last, data) = streamed(server.client, model, **body)
    assert (last, data) == ("answer", waited)
    used = orjson.loads(waited)["samples"]
    assert [name for name, _ in before] == ["running"] * len(before)
    assert [orjson.loads(told)["samples"] for _, told in before][-1] == used


@pytest.mark.parametrize("model", ["diabetes", "digits"])
def test_what_runs_is_what_so_many_samples_say(server: Server, model: str) -> None:
    """After each block: the answer that this number of samples gives, and how far it has come; never the draws."""
    rows = rows_of(server.client, model)
    *blocks, _ = streamed(server.client, model, inputs=rows, seed=3, samples=100, return_draws=True)
    told = [orjson.loads(data) for _, data in blocks]
    assert [one.pop("progress") for one in told] == [{"samples": n, "of": 100} for n in (32, 64, 96, 100)]
    for one in told:
        path = f"/v1/models/{model}/sample"
        assert one == ask(server.client, path, inputs=rows, seed=3, samples=one["samples"])
    for _, data in blocks:
        assert RUNNING.validate_json(data).model_dump(mode="json", exclude_unset=True) == orjson.loads(data)


def test_a_version_streams_under_its_own_path(server: Server) -> None:
    """The stream of a named version is that of the version served by default, where they are the same."""
    body = {"inputs": [ROW], "seed": 1, "samples": 40}
    paths = [f"/v1/models/diabetes{version}/sample/stream" for version in ("", "/versions/1")]
    first, second = (server.client.post(path, json=body).content for path in paths)
    assert first == second


@pytest.mark.parametrize(
    ("model", "fields", "status"),
    [
        ("none", {}, 404),
        ("dry", {"inputs": TINY_ROWS}, 409),
        ("silent", {"inputs": TINY_ROWS, "method": "ensemble"}, 409),
        ("silent", {"inputs": TINY_ROWS, "samples": {"target_stderr": 0}}, 422),
        ("huge", {"inputs": TINY_ROWS}, 422),
        ("broken", {"inputs": TINY_ROWS}, 503),
    ],
)
def test_what_is_wrong_from_the_start_is_a_plain_problem(
    tiny: Server, model: str, fields: dict[str, Any], status: int
) -> None:
    """Nothing is streamed before the first block is there: until then errors have their status and their form."""
    assert_problem(send(tiny.client, f"/v1/models/{model}/sample/stream", orjson.dumps(fields)), status)


@pytest.mark.parametrize(
    ("error", "status"), [(InvalidRows([("inputs[0]", "is too far out")]), 422), (ArithmeticError("canary"), 500)]
)
async def test_what_goes_wrong_later_is_told_in_the_last_event(
    tiny_store: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """After a good block the stream ends with a problem, in the form that it would have had by itself."""
    whole = jobs._answer

    def failing(job: jobs.Job, outputs: Any) -> Any:
        if len(outputs) > BLOCK:
            raise error
        return whole(job, outputs)

    monkeypatch.setattr(jobs, "_answer", failing)
    async with running(store=tiny_store) as (_, client):
        answer = await client.post("/v1/models/silent/sample/stream", json={"inputs": TINY_ROWS, "samples": 100})
    (first, _), (last, data) = events(answer.text)
    problem = orjson.loads(data)
    assert (first, last) == ("running", "problem")
    assert (problem["status"], problem["request_id"]) == (status, answer.headers["x-request-id"])
    assert b"canary" not in data


def test_a_seeded_stream_has_a_tag_of_its_own(server: Server) -> None:
    """If-None-Match with a stream's tag is answered 304; the tag of the answer that waits is another."""
    body = orjson.dumps({"inputs": [ROW], "seed": 1})
    path = "/v1/models/diabetes/sample"
    stream, waited = send(server.client, f"{path}/stream", body), send(server.client, path, body)
    assert stream.headers["cache-control"] == "private"
    assert stream.headers["etag"] != waited.headers["etag"]
    again = send(server.client, f"{path}/stream", body, If_None_Match=stream.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    unseeded = send(server.client, f"{path}/stream", orjson.dumps({"inputs": [ROW]}))
    assert unseeded.headers["cache-control"] == "no-store"
    assert "etag" not in unseeded.headers


def counted(server: Server, model: str) -> tuple[int, int]:
    """Requests about a model that were answered, and that failed."""
    (stats,) = server.client.get(f"/v2/models/{model}/stats").json()["model_stats"]
    return stats["inference_stats"]["success"]["count"], stats["inference_stats"]["fail"]["count"]


def test_who_hangs_up_stops_the_work(server: Server) -> None:
    """Closed after its first event, a stream of minutes ends at its next block, and is not counted as answered."""
    answered, failed = counted(server, "digits")
    body = {"inputs": rows_of(server.client, "digits", 7), "samples": 100_000, "seed": 1}
    address = f"{server.url}/v1/models/digits/sample/stream"
    with httpx.stream("POST", address, json=body, timeout=60) as answer:
        assert next(answer.iter_lines()) == "event: running"
    while counted(server, "digits") == (answered, failed):
        ask(server.client, "/v1/models/diabetes/predict", inputs=[ROW])  # others are served meanwhile
    assert counted(server, "digits") == (answered, failed + 1)


@pytest.mark.parametrize(("model", "target"), [("diabetes", 1.0), ("digits", 0.01), ("colours", 0.02)])
def test_a_target_stops_at_the_first_block_end_where_every_mean_is_known(
    servers: dict[str, Server], model: str, target: float
) -> None:
    """No earlier block end had every standard error at the target; the draws are the beginning of a longer run's."""
    server, path = servers[model], f"/v1/models/{model}/sample"
    body = {"inputs": rows_of(server.client, model), "seed": 9, "return_draws": True}
    answer = ask(server.client, path, **body, samples={"target_stderr": target})
    assert list(answer)[:6] == ["model", "seed", "first_sample", "samples", "method", "converged"]
    assert answer["converged"] is True
    used = answer["samples"]
    assert BLOCK < used < 4096
    for end in ends(4096):
        worst = max(value for row in ask(server.client, path, **body, samples=end)["stderr"] for value in row)
        assert (worst <= target) == (end == used)
        if end == used:
            break
    longer = ask(server.client, path, **body, samples=used + 100)
    assert answer["draws"] == longer["draws"][:used]
    fixed = ask(server.client, path, **body, samples=used)
    assert {**fixed, "converged": True} == answer


def test_a_target_is_looked_for_between_min_and_max(server: Server) -> None:
    """Never stops before `min`, at `max` in any case, and then says whether the target was reached."""
    path, body = "/v1/models/diabetes/sample", {"inputs": [ROW], "seed": 9}
    for samples, used, converged in (
        ({"target_stderr": 1e6}, 32, True),
        ({"target_stderr": 1e6, "max": 20}, 20, True),
        ({"target_stderr": 1e6, "min": 100}, 128, True),
        ({"target_stderr": 1e6, "min": 100, "max": 110}, 110, True),
        ({"target_stderr": 1e-6, "max": 110}, 110, False),
        ({"target_stderr": 1e6, "min": 1, "max": 1}, 1, False),  # one sample has no standard error
        ({"target_stderr": 1e-6, "min": 4100}, 4100, False),
    ):
        answer = ask(server.client, path, **body, samples=samples)
        assert (answer["samples"], answer["converged"]) == (used, converged), samples


TARGETS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, [("samples.target_stderr", "is missing")]),
    ({"target_stderr": 0}, [("samples.target_stderr", "must be a number above 0")]),
    ({"target_stderr": "canary"}, [("samples.target_stderr", "must be a number above 0")]),
    ({"target_stderr": 1, "min": 50, "max": 40}, [("samples.min", "must be at most samples.max")]),
    ({"target_stderr": 1, "max": 100_001}, [("samples.max", "must be at most 100000")]),
    ({"target_stderr": 1, "canary": 31415}, [("samples", "has an unknown field; known are target_stderr, min, max")]),
    (
        {"target_stderr": 1, "min": 0, "max": 1.5},
        [
            (f"samples.{name}", "must be a whole number from 1, written without quotes, decimal point or exponent")
            for name in ("min", "max")
        ],
    ),
]


@pytest.mark.parametrize(("samples", "expected"), TARGETS, ids=str)
def test_a_bad_target_is_named_with_the_rule_it_breaks(
    server: Server, samples: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """422 names the part of the target, says the whole rule, and repeats nothing of what was sent."""
    response = send(server.client, "/v1/models/diabetes/sample", orjson.dumps({"inputs": [ROW], "samples": samples}))
    assert [(error["field"], error["message"]) for error in assert_problem(response, 422)["errors"]] == expected
    assert "canary" not in response.text


def test_the_protocol_takes_no_target(server: Server) -> None:
    """Under /v2, whose parameters can't be objects, a target is an error, never dropped."""
    tensor = {"name": "inputs", "shape": [1, 10], "datatype": "FP64", "data": ROW}
    body = {"inputs": [tensor], "parameters": {"samples": {"target_stderr": 1}}}
    response = server.client.post("/v2/models/diabetes/infer", json=body)
    assert response.status_code == 400
    assert response.json() == {"error": "parameters.samples: must be a whole number; targets are for /v1"}
