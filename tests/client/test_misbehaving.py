"""What a caller sees of a server that misbehaves: busy, broken, slow, or no server of ours at all."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from penumbra import (
    AccessDenied,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidRequest,
    NotApplicable,
    Patience,
    RateLimited,
    ServiceFailed,
    Unavailable,
    UnexpectedAnswer,
    UnknownModel,
)
from tests.client.rude import HANG, RESET, Rude, problem, reply

ROW = [[1.0, 2.0]]
MODEL = {"name": "m", "version": "1", "digest": "sha256:0"}
GOOD = orjson.dumps({"model": MODEL, "mean": [[3.5]]})
FINE = reply(200, GOOD)
Start = Callable[..., Rude]


@pytest.mark.parametrize(
    "first",
    [
        problem(503, "full", retry_after="0"),
        problem(503, "full"),
        problem(429, "too many", retry_after="0"),
        problem(429, "too many", retry_after="Thu, 01 Jan 1970 00:00:00 GMT"),
        reply(502, b"<html>bad gateway</html>", content_type="text/html"),
        reply(504, b"<html>gateway timeout</html>", content_type="text/html"),
        reply(500, b"Internal Server Error", content_type="text/plain"),  # Ray Serve's, where a replica died
        [RESET],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", RESET],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"],  # ends too early, politely
        [],
    ],
    ids=lambda script: "-".join(str(part[:40]) for part in script) or "hangs up",
)  # fmt: skip
def test_what_may_pass_is_asked_again(face: Any, rude: Start, quick: Callable[..., Patience], first: Any) -> None:
    """A busy or broken server is asked again with the very same request, and the caller sees only the answer."""
    server = rude(first, FINE)
    with face(server.url, patience=quick()) as client:
        assert client.predict("m", ROW).mean.tolist() == [[3.5]]
    (_, before), (_, after) = server.heard
    assert before == after
    assert orjson.loads(after) == {"inputs": ROW}


def test_a_sampling_without_a_seed_is_asked_again_with_the_same_one(
    face: Any, rude: Start, quick: Callable[..., Patience]
) -> None:
    """The client draws the seed before it asks: asking twice is asking once."""
    server = rude([RESET], problem(503, "full", retry_after="0"), problem(404, "no such model"))
    with face(server.url, patience=quick()) as client, pytest.raises(UnknownModel):
        client.sample("m", ROW)
    bodies = {body for _, body in server.heard}
    assert len(server.heard) == 3
    assert len(bodies) == 1
    assert 0 <= orjson.loads(bodies.pop())["seed"] < 2**53


@pytest.mark.parametrize(
    ("answer", "error", "attempts"),
    [
        (problem(400, "not JSON"), InvalidRequest, 1),
        (problem(401, "who are you?"), AccessDenied, 1),
        (problem(403, "not you"), AccessDenied, 1),
        (problem(404, "no such model"), UnknownModel, 1),
        (problem(409, "no dropout"), NotApplicable, 1),
        (problem(413, "too large"), InvalidRequest, 1),
        (problem(422, "no"), InvalidRequest, 1),
        (problem(429, "too many", retry_after="0"), RateLimited, 3),
        (problem(503, "full", retry_after="0"), Unavailable, 3),
        (problem(504, "the deadline passed while queued"), DeadlineExceeded, 1),
        (problem(500, "an internal error"), ServiceFailed, 1),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_each_problem_is_an_error_of_its_own(
    face: Any, rude: Start, quick: Callable[..., Patience], answer: Any, error: type[Exception], attempts: int
) -> None:
    """The error says what the service said, has its problem, and comes after as many attempts as make sense."""
    server = rude(answer)
    with face(server.url, patience=quick(retries=2)) as client, pytest.raises(error) as caught:
        client.predict("m", ROW)
    assert type(caught.value) is error
    told = caught.value.problem  # type: ignore[attr-defined]
    assert told.detail == str(caught.value)
    assert caught.value.status == told.status  # type: ignore[attr-defined]
    assert caught.value.request_id == "r1"  # type: ignore[attr-defined]
    assert len(server.heard) == attempts


def test_retry_after_beyond_the_timeout_is_not_waited_for(face: Any, rude: Start) -> None:
    """Who may wait a minute does not sit through a pause of an hour: the error says how long it would have been."""
    server = rude(problem(503, "full", retry_after="3600"))
    with face(server.url, timeout=60.0) as client, pytest.raises(Unavailable) as caught:
        client.predict("m", ROW)
    assert caught.value.retry_after == 3600.0
    assert len(server.heard) == 1


@pytest.mark.parametrize(
    "script",
    [[HANG], [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", HANG]],
    ids=["silence", "silence mid-body"],
)
def test_a_slow_answer_is_given_up(face: Any, rude: Start, script: Any) -> None:
    """When the timeout has passed the caller is told so, and the request is not sent again."""
    server = rude(script)
    with face(server.url, timeout=0.05) as client, pytest.raises(DeadlineExceeded, match=r"no answer within 0\.05 s"):
        client.predict("m", ROW)
    assert len(server.heard) <= 1  # none, where it was given up before it was heard


def test_the_timeout_goes_along_as_a_deadline(face: Any, rude: Start) -> None:
    """The service is told how long the caller waits, for one call or by default, and nothing where there is no end."""
    server = rude(FINE)
    with face(server.url, timeout=90.0) as client:
        client.predict("m", ROW)
        client.predict("m", ROW, timeout=5.0)
    with face(server.url, timeout=None) as client:
        client.predict("m", ROW)
    heads = [dict(line.split(": ", 1) for line in head.splitlines()[1:]) for head, _ in server.heard]
    first, second = (int(head["x-deadline-ms"]) for head in heads[:2])
    assert 60_000 < first <= 90_000
    assert 1 <= second <= 5_000
    assert "x-deadline-ms" not in heads[2]


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"<html>Welcome to our router</html>", content_type="text/html"),
        reply(200, b"{}"),
        reply(200, b"[]"),
        reply(200, b'{"model": 1, "mean": "x"}'),
        reply(307, b"", location="http://127.0.0.1:1/"),
    ],
    ids=["a page", "nothing", "a list", "nonsense", "a redirect"],
)
def test_what_is_no_answer_of_the_service_is_told_so(face: Any, rude: Start, answer: Any) -> None:
    """A proxy's page, or another server's JSON, is neither an answer nor a traceback."""
    with face(rude(answer).url) as client, pytest.raises(UnexpectedAnswer):
        client.predict("m", ROW)


def test_compressed_answers_are_read(face: Any, rude: Start) -> None:
    """A proxy may compress what it passes on."""
    server = rude(reply(200, gzip.compress(GOOD), content_encoding="gzip"))
    with face(server.url) as client:
        assert client.predict("m", ROW).mean.tolist() == [[3.5]]


def test_nobody_there(face: Any, rude: Start, quick: Callable[..., Patience]) -> None:
    """A closed port and an address that is none are told in a sentence."""
    server = rude(FINE)
    server.close()
    with (
        face(server.url, patience=quick(retries=1)) as client,
        pytest.raises(ConnectionFailed, match=r"no service at http://127\.0\.0\.1:\d+: .*\. Is it running\?"),
    ):
        client.models()
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:8000 is not a URL: write http://127\.0\.0\.1:8000"):
        Client("127.0.0.1:8000")
    with face("ftp://here") as client, pytest.raises(ConnectionFailed, match="is not the address of a service"):
        client.models()


def test_a_key_is_sent_as_a_bearer_token(face: Any, rude: Start) -> None:
    """And other headers beside it."""
    server = rude(FINE)
    with face(server.url, api_key="Secret", headers={"X-Team": "blue"}) as client:
        client.predict("m", ROW)
    assert "authorization: bearer secret" in server.heard[0][0]
    assert "x-team: blue" in server.heard[0][0]
    assert "user-agent: penumbra/" in server.heard[0][0]


def test_one_failed_chunk_fails_the_call(face: Any, rude: Start) -> None:
    """Chunks are all or nothing: the first error is the call's."""
    known = {
        **MODEL, "task": "regression", "inputs": [{"name": "a"}, {"name": "b"}], "outputs": [{"name": "y"}],
        "architecture": {}, "default_samples": 100, "metrics": {}, "calibration": {}, "provenance": {},
        "reproducibility": {"plan": "ordered", "rows": 1, "verified": True},
    }  # fmt: skip
    server = rude(reply(200, orjson.dumps(known)), FINE, problem(422, "inputs: no"))
    with face(server.url, chunk_rows=1, concurrency=1, binary=False) as client, pytest.raises(InvalidRequest):
        client.predict("m", ROW * 9)
    # Those that were on their way when the first one failed, and no more.
    assert 3 <= len(server.heard) <= 6


def test_pauses_grow_and_never_undercut_the_service() -> None:
    """Each is drawn between none and a bound that doubles, up to the longest; a Retry-After comes on top."""
    longest = Patience(first_pause=0.5, longest_pause=3.0, draw=lambda _, high: high)
    shortest = Patience(first_pause=0.5, longest_pause=3.0, draw=lambda low, _: low)
    assert [longest.pause(attempt, None) for attempt in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert [shortest.pause(attempt, 7.0) for attempt in range(2)] == [7.0, 7.0]


def test_impossible_manners_are_refused() -> None:
    """Before anything is asked."""
    for options in ({"concurrency": 0}, {"chunk_rows": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Client(**options)
