"""Answers that grow: what a caller hears of a stream, also of one that breaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from penumbra import (
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    NotApplicable,
    Patience,
    ServiceFailed,
    UnexpectedAnswer,
    UnknownModel,
)
from tests.api.live import Server
from tests.api.wire import ROW as PATIENT
from tests.api.wire import rows_of
from tests.client.rude import HANG, RESET, Rude, problem, reply

ROW = [[1.0]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def event(name: str, samples: int, of: int = 96) -> bytes:
    """An event of a stream, as the service has them."""
    fields: dict[str, Any] = {
        "model": {"name": "m", "version": "1", "digest": "sha256:0"}, "seed": 1, "first_sample": 0,
        "samples": samples, "method": "dropout", "labels": ["a"], "probabilities": [[1.0, 0.0]], "std": None,
        "stderr": None, "predictive_entropy": [0.0], "expected_entropy": [0.0], "mutual_information": [0.0],
        "variation_ratio": [0.0], "votes": [[samples, 0]],
    }  # fmt: skip
    if name == "running":
        fields["progress"] = {"samples": samples, "of": of}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(fields))


def trouble(status: int) -> bytes:
    """The event that an error is, once a stream has begun."""
    fields = {"type": "about:blank", "title": "x", "status": status, "detail": "no", "errors": [], "request_id": "r"}
    return b"event: problem\ndata: %b\n\n" % orjson.dumps(fields)


def told(face: Any, server: Rude, **patience: Any) -> list[tuple[int, bool]]:
    """The samples of each answer that a caller hears, and whether it was the last."""
    with face(server.url, patience=Patience(**{"first_pause": 0.0, "retries": 2, **patience})) as client:
        return [(answer.samples, answer.progress is None) for answer in client.stream("m", ROW)]


WHOLE = [(32, False), (64, False), (96, True)]


def test_each_event_is_an_answer(face: Any, rude: Callable[..., Rude]) -> None:
    """In order, with how far it has come, the whole one last; comments and fields that nobody knows are passed over."""
    script = [HEAD, b": hello\nretry: 5\n\n" + event("running", 32)[:50], event("running", 32)[50:]]
    server = rude([*script, event("running", 64) + event("answer", 96)])
    assert told(face, server) == WHOLE
    head, body = server.heard[0]
    assert head.startswith("post /v1/models/m/sample/stream ")
    assert "accept: text/event-stream" in head
    assert orjson.loads(body).keys() == {"inputs", "seed"}


@pytest.mark.parametrize(
    "cut",
    [
        [HEAD, event("running", 32), RESET],
        [HEAD, event("running", 32) + event("running", 64)[:20]],  # ends in the middle, politely
        [HEAD, event("running", 32), event("running", 64)],  # ends without its answer
        [HEAD],
        problem(503, "full", retry_after="0"),
        [HEAD, event("running", 32), trouble(503)],
    ],
    ids=["reset", "cut", "no answer", "nothing", "503", "503 later"],
)  # fmt: skip
def test_a_stream_that_breaks_is_taken_up_where_it_was(face: Any, rude: Callable[..., Rude], cut: Any) -> None:
    """It is asked for again, with the same seed, and nothing is told twice."""
    server = rude(cut, [HEAD, event("running", 32), event("running", 64), event("answer", 96)])
    assert told(face, server) == WHOLE
    assert server.heard[0][1] == server.heard[1][1]


def test_a_stream_that_keeps_breaking_is_given_up(face: Any, rude: Callable[..., Rude]) -> None:
    """What was told until then was told; the error comes after it."""
    server = rude([HEAD, event("running", 32)])
    with pytest.raises(ConnectionFailed, match="ended before its answer"):
        told(face, server)
    assert len(server.heard) == 3


def test_silence_in_a_stream_is_given_up(face: Any, rude: Callable[..., Rude]) -> None:
    """The timeout is for each event."""
    with pytest.raises(DeadlineExceeded):
        told(face, rude([HEAD, event("running", 32), HANG]), timeout=0.1)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (problem(404, "no such model"), UnknownModel),
        ([HEAD, trouble(500)], ServiceFailed),
        (reply(200, b"<html>"), UnexpectedAnswer),
        ([HEAD, b"event: answer\ndata: {}\n\n"], UnexpectedAnswer),
        ([HEAD, b"event: running\ndata: []\n\n"], UnexpectedAnswer),
        ([HEAD, b"event: news\ndata: 7\n\n"], UnexpectedAnswer),
    ],
    ids=["404", "a bug later", "a page", "no answer", "no object", "no event of ours"],
)  # fmt: skip
def test_what_is_wrong_with_a_stream(face: Any, rude: Callable[..., Rude], script: Any, error: type[Exception]) -> None:
    """An error as for any other call, before the first event or after it."""
    with pytest.raises(error):
        told(face, rude(script))


@pytest.mark.parametrize("model", ["noisy", "headed", "colours"])
def test_the_last_answer_is_that_of_sample(face: Any, tiny: Server, model: str) -> None:
    """Answers on the way are those of fewer samples, and the last one has the very bytes of a request that waits."""
    rows = rows_of(tiny.client, model, 2)
    with face(tiny.url) as client:
        answers = list(client.stream(model, rows, samples=100, seed=7))
        assert [answer.samples for answer in answers] == [32, 64, 96, 100, 100]
        assert [answer.progress for answer in answers] == [(32, 100), (64, 100), (96, 100), (100, 100), None]
        assert answers[-1].to_json() == client.sample(model, rows, samples=100, seed=7).to_json()
        fewer = client.sample(model, rows, samples=64, seed=7).to_json()
        assert answers[1].to_json() == b'{"progress":{"samples":64,"of":100},' + fewer[1:]


def test_whoever_has_heard_enough_stops_listening(tiny: Server) -> None:
    """A generator that is closed closes its connection; the client goes on working."""
    with Client(tiny.url) as client:
        growing = client.stream("noisy", rows_of(tiny.client, "noisy", 1), samples=50_000, seed=1)
        assert next(growing).samples == 32
        growing.close()  # type: ignore[attr-defined]
        assert client.predict("noisy", [[0.0, 0.0, 0.0]]).mean.shape == (1, 2)


def test_as_many_samples_as_it_takes(face: Any, server: Server) -> None:
    """A target is one request's, however it is asked: the rows stop together, and can't be cut."""
    rows, target = rows_of(server.client, "diabetes", 3), {"target_stderr": 2.0, "min": 32, "max": 1000}
    with face(server.url, chunk_rows=3) as client:
        answer = client.sample("diabetes", rows, samples=target, seed=7)
        assert answer.converged is True
        assert 32 <= answer.samples < 1000
        assert float(answer.stderr.max()) <= 2.0
        with pytest.raises(NotApplicable.__mro__[1], match="at most 3 rows at a time: the rows stop together"):
            client.sample("diabetes", rows * 2, samples=target, seed=7)
    sent = {"inputs": rows, "samples": target, "seed": 7}
    assert answer.to_json() == server.client.post("/v1/models/diabetes/sample", json=sent).content


def test_the_example_of_the_page_prints_what_it_says(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The stream in docs/applications.md, with its client and its patient."""
    page = (Path(__file__).parents[2] / "docs" / "applications.md").read_text()
    ((program, printed),) = re.findall(r"```python\n(for answer[^`]*)```\n+```text\n(.*?)```", page, re.DOTALL)
    names = [column["name"] for column in server.client.get("/v1/models/diabetes").json()["inputs"]]
    with Client(server.url) as client:
        exec(program, {"client": client, "patient": dict(zip(names, PATIENT, strict=True))})
    assert capsys.readouterr().out == printed
