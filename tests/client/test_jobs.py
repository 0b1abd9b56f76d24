"""What a caller sees of jobs, on both faces, from a server that does what it is told: no time passes here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as tables

from penumbra import (
    ConnectionFailed,
    DeadlineExceeded,
    InvalidRequest,
    JobFailed,
    NotApplicable,
    Patience,
    Unavailable,
    UnexpectedAnswer,
    UnknownJob,
    UnknownModel,
)
from penumbra.following import _written
from penumbra.rows import Rows, read
from tests.client.rude import HANG, RESET, Rude, problem, reply

ID = "0123456789abcdef0123456789abcdef"
MODEL = {"name": "m", "version": "1", "digest": "sha256:0"}
KNOWN = {
    **MODEL, "task": "regression", "inputs": [{"name": "a"}, {"name": "b"}], "outputs": [{"name": "y"}],
    "architecture": {}, "default_samples": 100, "metrics": {}, "calibration": {}, "provenance": {},
    "reproducibility": {"plan": "ordered", "rows": 1, "verified": True},
}  # fmt: skip
Start = Callable[..., Rude]
Quick = Callable[..., Patience]


def told(state: str, done: int = 0, of: int = 9, status: int = 200, error: str | None = None) -> list[bytes]:
    """What a service says of a job."""
    fields = {
        "id": ID, "state": state, "error": error, "model": MODEL, "verb": "sample", "options": {"seed": 7},
        "chunks": {"done": done, "of": of}, "rows": {"done": done, "of": of}, "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return reply(status, orjson.dumps(fields))


def unknown() -> list[bytes]:
    """What a service says of a job that it doesn't know."""
    fields = {"type": "urn:penumbra:problem:unknown-job", "title": "x", "status": 404, "detail": "there is no such job"}
    return reply(404, orjson.dumps({**fields, "errors": [], "request_id": "r1"}))


def csv(body: bytes) -> list[bytes]:
    """A table."""
    return reply(200, body, content_type="text/csv; charset=utf-8")


def question(head: str) -> dict[str, str]:
    """The query of a request."""
    return dict(parse_qsl(urlsplit(head.split()[1]).query))


def headers(head: str) -> dict[str, str]:
    """The headers of a request."""
    return dict(line.split(": ", 1) for line in head.splitlines()[1:])


@pytest.mark.parametrize(("ending", "media"), [(".csv", "csv"), (".TSV", "tab-separated"), (".parquet", "parquet")])
def test_a_file_is_sent_as_it_is(face: Any, rude: Start, tmp_path: Path, ending: str, media: str) -> None:
    """Its bytes are the body, its name says which form they have, and the question stands in the query."""
    (table := tmp_path / f"rows{ending}").write_bytes(content := bytes(range(256)) * 3000)
    server = rude(told("waiting", status=202))
    with face(server.url) as client:
        job = client.submit("m", str(table), samples=20, seed=7, quantiles=[0.1, 0.5], method="dropout", keep="all")
    ((head, body),) = server.heard
    assert body == content
    assert head.startswith("post /v1/jobs?")
    assert media in headers(head)["content-type"]
    assert headers(head)["content-length"] == str(len(content))
    assert question(head) == {
        "model": "m", "verb": "sample", "keep": "all", "missing": "fail",
        "samples": "20", "seed": "7", "quantiles": "[0.1,0.5]", "method": "dropout",
    }  # fmt: skip
    assert (job.id, job.told.state, job.told.rows.of) == (ID, "waiting", 9)


def test_rows_become_a_table(face: Any, rude: Start) -> None:
    """In the model's order, for the version that was asked; a sampling is given a seed, a prediction none."""
    known, taken = reply(200, orjson.dumps(KNOWN)), told("waiting", status=202)
    server = rude(known, taken, known, taken)
    frame = pd.DataFrame({"b": [2, 4], "a": [0.1, 1 / 3]})
    with face(server.url) as client:
        client.submit("m", frame)
        client.submit("m", [[np.nan, 1.0]], verb="predict", missing="blank")
    _, (sampled, rows), _, (predicted, blank) = server.heard
    assert rows == b"a,b\n0.1,2.0\n0.3333333333333333,4.0\n"
    assert blank == b"a,b\nnan,1.0\n"
    assert question(sampled)["version"] == "1"
    assert 0 <= int(question(sampled)["seed"]) < 2**53
    assert "seed" not in question(predicted)


@given(tables(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(allow_nan=False)))
def test_written_numbers_are_the_same_numbers(numbers: Any) -> None:
    """To the last bit, signed zeros and the smallest among them."""
    table = read(numbers)
    assert isinstance(table, Rows)
    lines = _written(table, [str(n) for n in range(numbers.shape[1])]).decode().splitlines()[1:]
    got = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    assert got.tobytes() == numbers.tobytes()


@pytest.mark.parametrize(
    ("table", "options", "error", "match"),
    [
        ("rows.xls", {}, InvalidRequest, "must end in .csv, .tsv or .parquet"),
        ("nowhere.csv", {}, FileNotFoundError, "there is no file nowhere.csv"),
        ([[1.0, 2.0]], {"sampels": 3}, TypeError, "no option 'sampels'"),
        (7, {}, TypeError, "rows must be"),
    ],
    ids=["a form", "no file", "an option", "no table"],
)  # fmt: skip
def test_mistakes_are_found_before_anything_is_sent(
    face: Any, rude: Start, table: Any, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    """As those of other methods are."""
    server = rude(told("waiting"))
    with face(server.url) as client, pytest.raises(error, match=match):
        client.submit("m", table, **options)
    assert server.heard == []


@pytest.mark.parametrize(
    "first",
    [[RESET], [], problem(503, "full", retry_after="0"), reply(502, b"<html>")],
    ids=["reset", "end", "503", "502"],
)
def test_a_table_that_may_have_come_is_sent_again(
    face: Any, rude: Start, quick: Quick, tmp_path: Path, first: Any
) -> None:
    """With the same key, by which the service knows that it has it; another table has another key."""
    (table := tmp_path / "rows.csv").write_bytes(b"a,b\n1,2\n" * 20_000)
    server = rude(first, told("waiting", status=202))
    with face(server.url, patience=quick()) as client:
        client.submit("m", table)
        client.submit("m", table)
    (before, lost), (after, body), (other, _) = server.heard
    assert lost == body == table.read_bytes()
    assert question(before) == question(after)
    assert headers(before)["idempotency-key"] == headers(after)["idempotency-key"] != headers(other)["idempotency-key"]


def test_waiting(face: Any, rude: Start, quick: Quick) -> None:
    """The job is looked at until it is done, and what is done is told; an estimate that was reached is not the end."""
    scripts = [told("waiting"), told("running", 4), [RESET], told("running", 9), told("done", 10, 10)]
    server = rude(told("waiting", status=202), *scripts)
    seen: list[tuple[int, int]] = []
    with face(server.url, patience=quick()) as client:
        job = client.job(ID)
        assert job.wait(progress=lambda done, of: seen.append((done, of))).state == "done"
    assert job.told.rows.done == 10
    assert seen == [(0, 9), (4, 9), (10, 10)]
    assert len(server.heard) == 6


def test_waiting_has_an_end(face: Any, rude: Start) -> None:
    """What takes longer than the caller waits is told so, and can be waited for again. The clock is the patience's."""
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    server = rude(*[told("running", 4)] * 3, told("done", 9))
    with face(server.url, patience=Patience(first_pause=0.0, timeout=1000.0, clock=clock)) as client:
        job = client.job(ID)
        with pytest.raises(DeadlineExceeded, match=r"the job is running still after 0\.5 s, and goes on"):
            job.wait(timeout=0.5)
        assert job.wait(timeout=900.0).state == "done"


@pytest.mark.parametrize("after", [told("failed", error="row 2: no"), told("cancelled")], ids=["failed", "cancelled"])
def test_jobs_without_a_result(face: Any, rude: Start, tmp_path: Path, after: Any) -> None:
    """Whoever waits for one is told what became of it, and no file appears."""
    with face(rude(told("running"), after).url) as client:
        job = client.job(ID)
        with pytest.raises(JobFailed, match=r"^the job (failed: row 2: no|was cancelled)$") as caught:
            job.result(tmp_path / "out.csv")
    assert caught.value.job.id == ID
    assert caught.value.job.has_ended
    assert list(tmp_path.iterdir()) == []


def test_places_that_are_none_are_found_before_the_wait(face: Any, rude: Start, tmp_path: Path) -> None:
    """Not after an hour of it."""
    server = rude(told("running"))
    with face(server.url) as client:
        job = client.job(ID)
        for path, match in (("out.xls", "must end in .csv, .tsv or .parquet"), ("no/out.csv", "there is no directory")):
            with pytest.raises(InvalidRequest, match=match):
                job.result(tmp_path / path)
    assert len(server.heard) == 1


def test_a_result_appears_whole(face: Any, rude: Start, quick: Quick, tmp_path: Path) -> None:
    """Where it breaks off it is fetched again; the file that was there stays until the new one is whole."""
    (out := tmp_path / "out.csv").write_bytes(b"before")
    half = [b"HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ncontent-length: 100\r\n\r\na,b\n", RESET]
    server = rude(told("done"), told("done"), half, problem(503, "full", retry_after="0"), half[:1], csv(b"a,b\n1,2\n"))
    with face(server.url, patience=quick()) as client:
        assert client.job(ID).result(str(out)) == out
    assert out.read_bytes() == b"a,b\n1,2\n"
    with face(rude(told("done"), told("done"), half).url, patience=quick(retries=1)) as client:
        job = client.job(ID)
        with pytest.raises(ConnectionFailed):
            job.result(out)
    assert out.read_bytes() == b"a,b\n1,2\n"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (csv(b"a"), InvalidRequest, "must end in .csv: the result is text/csv"),
        (reply(200, b"<html>", content_type="text/html"), UnexpectedAnswer, "not a table"),
        (unknown(), UnknownJob, "no such job"),
        (problem(409, "this job has no result: it is running"), NotApplicable, "it is running"),
        ([b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.apache.parquet\r\ncontent-length: 9\r\n\r\n", HANG],
         DeadlineExceeded, "no answer within"),
    ],
    ids=["another form", "a page", "forgotten", "not done", "silence"],
)  # fmt: skip
def test_results_that_are_none(
    face: Any, rude: Start, tmp_path: Path, answer: Any, error: type[Exception], match: str
) -> None:
    """Nothing is written, and what is wrong is told."""
    hurry = {"timeout": 1.0} if error is DeadlineExceeded else {}
    with face(rude(told("done"), told("done"), answer).url, **hurry) as client:
        job = client.job(ID)
        with pytest.raises(error, match=match):
            job.result(tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_what_is_asked_of_a_job(face: Any, rude: Start) -> None:
    """Each method is a request; what it says is kept as the last that was told."""
    listed = reply(200, b'{"jobs": [' + told("done")[0].partition(b"\r\n\r\n")[2] + b"]}")
    server = rude(listed, told("running", 3), told("cancelled", 3), reply(204), unknown())
    with face(server.url) as client:
        (job,) = client.jobs()
        assert job.told.state == "done"
        assert job.status().rows.done == 3
        assert job.cancel().state == job.told.state == "cancelled"
        job.forget()
        with pytest.raises(UnknownJob, match="there is no such job"):
            job.status()
    asked = [" ".join(head.split()[:2]) for head, _ in server.heard]
    one = f"/v1/jobs/{ID}"
    assert asked == ["get /v1/jobs", f"get {one}", f"post {one}/cancel", f"delete {one}", f"get {one}"]


def test_services_that_take_none(face: Any, rude: Start, quick: Quick, tmp_path: Path) -> None:
    """One without jobs, one with too many of this caller's, one without the model."""
    (table := tmp_path / "rows.csv").write_bytes(b"a,b\n1,2\n")
    model = {"type": "urn:penumbra:problem:unknown-model", "title": "x", "status": 404, "detail": "none", "errors": []}
    cases: list[tuple[Any, type[Exception], str]] = [
        (problem(404, "there is nothing at this path"), NotApplicable, "this service takes no jobs"),
        (problem(503, "9 jobs of this caller are not done yet", retry_after="0"), Unavailable, "not done yet"),
        (reply(404, orjson.dumps({**model, "request_id": "r1"})), UnknownModel, "none"),
    ]
    for answer, error, match in cases:
        with face(rude(answer).url, patience=quick(retries=1)) as client, pytest.raises(error, match=match):
            client.submit("m", table)
