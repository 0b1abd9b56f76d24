"""Headers: request ids, timings, tags and caching."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.inside import running
from tests.api.live import Server
from tests.api.wire import PREDICT, ROW, SAMPLE, TINY_ROWS, assert_problem

SEEDED: dict[str, Any] = {"inputs": [ROW], "seed": 7, "samples": 5}
STRONG_TAG = re.compile(r'"[0-9a-f]{32}"')
MADE_ID = re.compile(r"[0-9a-f]{32}")


def ask_all(client: httpx.Client, headers: dict[str, str]) -> list[httpx.Response]:
    """One answer of every kind: good, listed, unchanged, invalid, malformed, unknown, wrong verb."""
    tag = client.post(PREDICT, json={"inputs": [ROW]}).headers["etag"]
    return [
        client.post(SAMPLE, json=SEEDED, headers=headers),
        client.get("/v1/models", headers=headers),
        client.get("/health/live", headers=headers),
        client.post(PREDICT, json={"inputs": [ROW]}, headers={**headers, "If-None-Match": tag}),
        client.post(SAMPLE, json={}, headers=headers),
        client.post(SAMPLE, content=b"{", headers={**headers, "Content-Type": "application/json"}),
        client.get("/v1/models/none", headers=headers),
        client.get("/none", headers=headers),
        client.get(SAMPLE, headers=headers),
    ]


STATUSES = [200, 200, 200, 304, 422, 400, 404, 404, 405]


@pytest.mark.parametrize(
    "sent", ["a", "Trace-1.2_3~4", "Root=1-67891233-abcdef012345678912345678", "a+b/c==", "0" * 128]
)
def test_a_sane_request_id_comes_back(server: Server, sent: str) -> None:
    """Whatever the outcome, 304 and errors included, the id that the caller sent is returned, and is in the problem."""
    answers = ask_all(server.client, {"X-Request-ID": sent})
    assert [answer.status_code for answer in answers] == STATUSES
    assert [answer.headers.get_list("x-request-id") for answer in answers] == [[sent]] * len(answers)
    assert {answer.json()["request_id"] for answer in answers if answer.status_code >= 400} == {sent}


@pytest.mark.parametrize("sent", [None, "", "two words", "<script>", "x" * 129, "caf\u00e9", "a,b", "a%0d%0ab", '"'])
def test_any_other_request_id_is_replaced(server: Server, sent: str | None) -> None:
    """Without an id, or with one that could do harm in a log, each answer gets an id of its own."""
    headers = {} if sent is None else {"X-Request-ID": sent.encode("latin-1")}
    answers = ask_all(server.client, headers)  # type: ignore[arg-type]
    assert [answer.status_code for answer in answers] == STATUSES
    made = [answer.headers["x-request-id"] for answer in answers]
    assert all(MADE_ID.fullmatch(one) for one in made)
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(("path", "body"), [(PREDICT, {"inputs": [ROW]}), (SAMPLE, SEEDED)])
def test_server_timing_says_where_the_time_went(server: Server, path: str, body: dict[str, Any]) -> None:
    """Queue, compute and total are given in milliseconds, and the first two add up to the third."""
    timing = server.client.post(path, json=body).headers["server-timing"]
    found = re.fullmatch(r"queue;dur=(\d+\.\d{3}), compute;dur=(\d+\.\d{3}), total;dur=(\d+\.\d{3})", timing)
    assert found, timing
    queue, compute, total = map(float, found.groups())
    assert compute > 0
    assert queue + compute == pytest.approx(total, abs=0.0021)  # three roundings


@pytest.mark.parametrize(("path", "body"), [(PREDICT, {"inputs": [ROW]}), (SAMPLE, SEEDED)])
def test_a_repeatable_answer_has_a_strong_tag(server: Server, path: str, body: dict[str, Any]) -> None:
    """Predictions and seeded samples have a strong ETag, the same each time, and may be kept by their caller."""
    answers = [server.client.post(path, json=body) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["etag"] == answers[1].headers["etag"]
    assert STRONG_TAG.fullmatch(answers[0].headers["etag"])
    assert answers[0].headers["cache-control"] == "private"


def test_an_unseeded_answer_is_not_to_be_kept(server: Server) -> None:
    """A sample whose seed was drawn has no tag and says no-store."""
    answer = server.client.post(SAMPLE, json={"inputs": [ROW]})
    assert answer.status_code == 200
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


def test_an_unseeded_request_never_matches(server: Server) -> None:
    """If-None-Match on a request without a seed is computed, also with the tag of the seed that it might have got."""
    seed = server.client.post(SAMPLE, json={"inputs": [ROW], "samples": 5}).json()["seed"]
    tag = server.client.post(SAMPLE, json={"inputs": [ROW], "samples": 5, "seed": seed}).headers["etag"]
    for sent in (tag, "*"):
        again = server.client.post(SAMPLE, json={"inputs": [ROW], "samples": 5}, headers={"If-None-Match": sent})
        assert again.status_code == 200


def test_a_tag_names_all_that_the_answer_depends_on(tiny: Server) -> None:
    """Another row, seed, option, model, version or verb has another tag; spelling out a default has the same."""
    base = {"inputs": TINY_ROWS, "seed": 7, "samples": 5}

    def tag(path: str = "/v1/models/silent/sample", **changes: Any) -> str:
        answer = tiny.client.post(path, json={**base, **changes})
        assert answer.status_code == 200, answer.text
        return str(answer.headers["etag"])

    def tag_of_prediction(path: str) -> str:
        return str(tiny.client.post(path, json={"inputs": TINY_ROWS}).headers["etag"])

    different = [
        tag(),
        tag(seed=8),
        tag(samples=6),
        tag(first_sample=1),
        tag(interval=0.8),
        tag(quantiles=[0.5]),
        tag(quantiles=[0.25]),
        tag(dropout=0.4),
        tag(return_draws=True),
        tag(inputs=TINY_ROWS[::-1]),
        tag(inputs=TINY_ROWS[:2]),
        tag("/v1/models/noisy/sample"),
        tag("/v1/models/versioned/versions/1/sample"),
        tag("/v1/models/versioned/versions/2/sample"),
        tag("/v1/models/colours/sample"),
        tag("/v1/models/colours/sample", aggregate="vote"),
        *(tag_of_prediction(f"/v1/models/{model}/predict") for model in ("silent", "noisy", "colours")),
    ]
    assert len(set(different)) == len(different)
    named = [dict(zip(("first", "second", "third"), row, strict=True)) for row in TINY_ROWS]
    assert {
        tag(interval=0.9, quantiles=[], first_sample=0, method="dropout", aggregate="mean", return_draws=False),
        tag("/v1/models/silent/versions/1/sample"),
        tag(inputs=named),
    } == {tag()}


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{} , "more"', " {} "])
async def test_a_caller_who_has_the_answer_gets_304_and_nothing_is_computed(tiny_store: Path, form: str) -> None:
    """If-None-Match with the tag, alone or among others, gives an empty 304 with tag and id; no request is computed."""
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/models/silent/predict", {"inputs": TINY_ROWS}),
        ("/v1/models/silent/sample", {"inputs": TINY_ROWS, "seed": 7}),
    ]
    async with running(store=tiny_store) as (app, client):
        for path, body in asked:
            tag = (await client.post(path, json=body)).headers["etag"]
            computed = computed_by(app)
            assert computed > 0
            same = await client.post(path, json=body, headers={"If-None-Match": form.format(tag)})
            assert same.status_code == 304
            assert same.content == b""
            assert same.headers["etag"] == tag
            assert same.headers["cache-control"] == "private"
            assert same.headers["x-request-id"]
            assert computed_by(app) == computed
            lines = [("If-None-Match", '"other"'), ("If-None-Match", form.format(tag))]
            assert (await client.post(path, json=body, headers=lines)).status_code == 304
            assert computed_by(app) == computed
            other = await client.post(path, json={**body, "inputs": TINY_ROWS[:1]}, headers={"If-None-Match": tag})
            assert other.status_code == 200
            assert computed_by(app) == computed + 1


def test_a_tag_does_not_excuse_a_bad_request(server: Server) -> None:
    """If-None-Match is looked at only once the request is known to be good."""
    headers = {"If-None-Match": server.client.post(SAMPLE, json=SEEDED).headers["etag"]}
    assert_problem(server.client.post(SAMPLE, json={**SEEDED, "interval": 2}, headers=headers), 422)
    assert_problem(server.client.post(SAMPLE, json={**SEEDED, "canary": 1}, headers=headers), 422)
    assert_problem(server.client.post(SAMPLE, json=SEEDED, headers={**headers, "X-Deadline-Ms": "soon"}), 400)


def test_errors_are_not_tagged(server: Server) -> None:
    """No problem has an ETag: nothing can be answered with 304 by mistake."""
    tagged = [answer.status_code for answer in ask_all(server.client, {}) if "etag" in answer.headers]
    assert tagged == [200, 304]


def computed_by(app: Any) -> int:
    """How many requests an app's engine has computed so far."""
    return int(app.state.inference._batcher.computed)
