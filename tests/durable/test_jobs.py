"""Jobs are handed in, looked at, cancelled, fetched and forgotten, each by whoever handed it in."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from penumbra import Client
from penumbra.schemas import JobDescription
from penumbra.scoring import Job, score
from service.api.jobs import _Desk
from service.durable import files
from service.durable.database import Database, url_of
from service.durable.runner import sweep
from service.errors import UnknownJob
from service.settings import Settings
from tests.access.keys import bearer
from tests.api.live import ROOT, Server
from tests.docs.test_examples import assert_matches, curl_request
from tests.durable.conftest import NAMES, Office
from tests.durable.runners import Runner, ended

QUESTION: dict[str, Any] = {"model": "diabetes", "samples": 20, "seed": 7}
ROW = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]
HEAD = ",".join(NAMES).encode()


def submit(office: Office, table: bytes, key: str = "one", kind: str = "text/csv", **question: Any) -> httpx.Response:
    """Hands in a table; the question is a small one, but for what is given."""
    headers = {**bearer(office.keys[key]), "Content-Type": kind}
    return office.server.client.post("/v1/jobs", params={**QUESTION, **question}, headers=headers, content=table)


def submit_json(office: Office, body: dict[str, Any]) -> httpx.Response:
    """Hands in rows and a question together."""
    return office.server.client.post("/v1/jobs", json=body, headers=bearer(office.keys["one"]))


def ask(office: Office, method: str, path: str, key: str = "one") -> httpx.Response:
    """Anything about jobs."""
    return office.server.client.request(method, f"/v1/jobs{path}", headers=bearer(office.keys[key]))


def finished(office: Office, *submitted: httpx.Response) -> list[dict[str, Any]]:
    """What is told of jobs that were accepted, once they have ended."""
    assert [each.status_code for each in submitted] == [202] * len(submitted), [each.text for each in submitted]
    headers = bearer(office.keys["one"])
    return [ended(office.server.client, each.json()["id"], headers=headers) for each in submitted]


def test_results(office: Office, table: bytes, tmp_path: Path, start_runner: Callable[..., Runner]) -> None:
    """A table has the bytes of `penumbra score`, rows of JSON the numbers of one request, a bad row its complaint."""
    runner = start_runner(jobs_dir=office.directory)
    spoilt = b"\n".join([HEAD, b",".join([b"0.1"] * 10), b"x," + b",".join([b"0.1"] * 9)])
    rows, row = finished(
        office, submit(office, table), submit_json(office, {**QUESTION, "inputs": [dict(zip(NAMES, ROW, strict=True))]})
    )
    predicted, drawn, bad = finished(
        office,
        submit_json(office, {"model": "diabetes", "verb": "predict", "inputs": [ROW, ROW]}),
        submit_json(office, {"model": "diabetes", "samples": 20, "inputs": [ROW]}),
        submit(office, spoilt),
    )
    runner.stop()

    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_bytes(table)
    with Client(office.server.url, api_key=office.keys["one"]) as client:
        score(client, Job("diabetes", options={"samples": 20, "seed": 7}), source, out)
        [prediction] = client.predict("diabetes", [ROW]).mean.tolist()
    got = ask(office, "GET", f"/{rows['id']}/result")
    assert got.headers["content-type"].startswith("text/csv")
    assert got.content == out.read_bytes()

    headers = bearer(office.keys["one"])
    body = {"samples": 20, "seed": 7, "inputs": [ROW]}
    answer = office.server.client.post("/v1/models/diabetes/sample", json=body, headers=headers).json()
    [told] = csv.DictReader(io.StringIO(ask(office, "GET", f"/{row['id']}/result").text))
    assert float(told["progression_mean"]) == answer["mean"][0][0]
    assert float(told["progression_lower"]) == answer["interval"]["lower"][0][0]

    told_twice = list(csv.DictReader(io.StringIO(ask(office, "GET", f"/{predicted['id']}/result").text)))
    assert [float(each["progression_mean"]) for each in told_twice] == prediction * 2
    assert isinstance(drawn["options"]["seed"], int)
    assert (bad["state"], bad["error"]) == ("failed", "table.csv, row 2: age must be a number, not 'x'")
    assert is_problem(ask(office, "GET", f"/{bad['id']}/result"), 409)


def test_forms(office: Office, table: bytes, tmp_path: Path, start_runner: Callable[..., Runner]) -> None:
    """TSV and Parquet come back as what they were, with the bytes of `penumbra score`."""
    frame = pd.read_csv(io.BytesIO(table))
    frame.to_csv(tmp_path / "rows.tsv", sep="\t", index=False)
    frame.to_parquet(tmp_path / "rows.parquet", index=False)
    media = {".tsv": "text/tab-separated-values", ".parquet": "application/vnd.apache.parquet"}
    runner = start_runner(jobs_dir=office.directory)
    told = finished(
        office,
        *(submit(office, (tmp_path / f"rows{kind}").read_bytes(), kind=named) for kind, named in media.items()),
    )
    runner.stop()
    for (kind, named), job in zip(media.items(), told, strict=True):
        assert (job["rows"], job["chunks"]) == ({"done": 610, "of": 610}, {"done": 10, "of": 10})
        got = ask(office, "GET", f"/{job['id']}/result")
        assert got.headers["content-type"].partition(";")[0] == named
        assert kind in got.headers["content-disposition"]
        out = tmp_path / f"out{kind}"
        with Client(office.server.url, api_key=office.keys["one"]) as client:
            asked = Job("diabetes", options={"samples": 20, "seed": 7}, batch_rows=64)
            score(client, asked, tmp_path / f"rows{kind}", out)
        assert got.content == out.read_bytes()
    read = pd.read_parquet(io.BytesIO(got.content))
    assert list(read)[:2] == ["note", "progression_mean"]
    assert read["progression_mean"].dtype == "float64"


def test_asked_again(office: Office, table: bytes) -> None:
    """With one key of the caller's there is one job, however often and however closely it is asked for."""

    def again(key: str, caller: str = "one") -> str:
        headers = {**bearer(office.keys[caller]), "Content-Type": "text/csv", "Idempotency-Key": key}
        answer = office.server.client.post("/v1/jobs", params=QUESTION, headers=headers, content=table)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        return str(answer.json()["id"])

    with ThreadPoolExecutor(4) as pool:
        [job] = set(pool.map(again, ["a key"] * 8))
    assert again("a key") == job
    others = {again("another"): "one", again(""): "one", again("a key", caller="other"): "other"}
    assert len({job, *others}) == 4
    listed = [each["id"] for each in ask(office, "GET", "").json()["jobs"]]
    assert listed.count(job) == 1
    assert not list(office.directory.glob("*.coming"))
    with closing(Database(url_of(office.directory, ""))) as database:
        database.forget(job)  # as if who took it had come no further
    assert again("a key") == job
    assert ask(office, "GET", f"/{job}").json()["state"] == "waiting"
    ask(office, "POST", f"/{job}/cancel")
    assert again("a key") == job
    assert ask(office, "GET", f"/{job}").json()["state"] == "cancelled"
    for each, caller in {job: "one", **others}.items():
        ask(office, "POST", f"/{each}/cancel", key=caller)
        assert ask(office, "DELETE", f"/{each}", key=caller).status_code == 204
    assert again("a key") == job, "what was forgotten may be asked for anew"
    ask(office, "POST", f"/{job}/cancel")


def test_described(office: Office) -> None:
    """The OpenAPI document says what is answered, and by which key it may be asked again."""
    paths = office.server.client.get("/openapi.json").json()["paths"]
    told = {"$ref": "#/components/schemas/JobDescription"}
    for path, verb, status in (("", "post", "202"), ("/{job}", "get", "200"), ("/{job}/cancel", "post", "200")):
        answer = paths[f"/v1/jobs{path}"][verb]["responses"][status]
        assert answer["content"] == {"application/json": {"schema": told}}
    assert set(paths["/v1/jobs/{job}/result"]["get"]["responses"]["200"]["content"]) == {
        "text/csv", "text/tab-separated-values", "application/vnd.apache.parquet",
    }  # fmt: skip
    headers = [each["name"] for each in paths["/v1/jobs"]["post"]["parameters"] if each["in"] == "header"]
    assert headers == ["Idempotency-Key"]
    sent = submit_json(office, {**QUESTION, "inputs": [ROW]})
    described = JobDescription.model_validate_json(sent.content)
    assert described.model_dump() == sent.json()
    assert not described.has_ended
    ask(office, "POST", f"/{described.id}/cancel")


def test_no_pickle_is_written(office: Office, table: bytes, start_runner: Callable[..., Runner]) -> None:
    """Questions, steps and what became of them are JSON."""
    runner = start_runner(jobs_dir=office.directory)
    finished(office, submit(office, table), submit(office, HEAD + b"\n" + b",".join([b"nan"] * 10)))
    runner.stop()
    with closing(sqlite3.connect(office.directory / "jobs.sqlite")) as database:
        forms = [
            *database.execute("select serialization from workflow_status"),
            *database.execute("select serialization from operation_outputs"),
        ]
        texts = [
            *database.execute("select inputs from workflow_input"),
            *database.execute("select output from workflow_output"),
            *database.execute("select output from operation_outputs"),
        ]
    assert set(forms) == {("portable_json",)}
    assert len(texts) > 6
    for (text,) in texts:
        json.loads(text)


def test_the_page_tells_what_happens(office: Office, start_runner: Callable[..., Runner]) -> None:
    """The example of docs/jobs.md, and its result, cut where the page cuts it."""
    page = (ROOT / "docs" / "jobs.md").read_text()
    [command] = re.findall(r"<!-- job -->\n```bash\n(curl [^`]*?)```", page)
    document, result = re.findall(r"```text\n([^`]*?)```", page)
    method, path, headers, body = curl_request(command)
    sent = office.server.client.request(method, path, headers={**headers, **bearer(office.keys["one"])}, content=body)
    assert_matches(sent.json(), json.loads(document), "$")
    runner = start_runner(jobs_dir=office.directory)
    [told] = finished(office, sent)
    runner.stop()
    got = list(csv.reader(io.StringIO(ask(office, "GET", f"/{told['id']}/result").text)))
    shown = list(csv.reader(io.StringIO(result)))
    assert len(got) == len(shown)
    for got_line, shown_line in zip(got, shown, strict=True):
        for cell, start in zip(got_line, shown_line[:-1], strict=False):
            assert cell.startswith(start.removesuffix("…"))


def test_cancelled_and_forgotten(office: Office, table: bytes, start_runner: Callable[..., Runner]) -> None:
    """A job stops before its next chunk, keeps no result, and is gone when it is forgotten; not before it has ended."""
    sent = submit(office, table, samples=2000)
    job = sent.json()["id"]
    assert is_problem(ask(office, "DELETE", f"/{job}"), 409)
    assert is_problem(ask(office, "GET", f"/{job}/result"), 409)
    assert ask(office, "POST", f"/{job}/cancel").json()["state"] == "cancelled"
    later = submit(office, table)
    runner = start_runner(jobs_dir=office.directory)
    finished(office, later)
    runner.stop()
    assert {of for of, _ in runner.chunks} == {later.json()["id"]}
    [told] = [each for each in ask(office, "GET", "").json()["jobs"] if each["id"] == job]
    assert (told["state"], told["chunks"]["done"]) == ("cancelled", 0)
    assert ask(office, "DELETE", f"/{job}").status_code == 204
    assert is_problem(ask(office, "GET", f"/{job}"), 404)
    assert not (office.directory / job).exists()


def test_cancelled_in_the_midst(
    table: bytes, tmp_path: Path, start_server: Callable[..., Server], start_runner: Callable[..., Runner]
) -> None:
    """What is cancelled while it is worked on ends there, and the next one has its turn."""
    (directory := tmp_path / "jobs").mkdir()
    settings = {"jobs_dir": directory, "job_chunk_rows": 2}
    client = start_server(**settings).client
    headers = {"Content-Type": "text/csv"}
    ids = [client.post("/v1/jobs", params=QUESTION, headers=headers, content=table).json()["id"] for _ in range(2)]
    runner = start_runner(**settings)
    runner.wait(3)
    working = runner.chunks[0][0]
    assert client.post(f"/v1/jobs/{working}/cancel").json()["state"] == "cancelled"
    [other] = set(ids) - {working}
    assert ended(client, other)["state"] == "done"
    runner.stop()
    told = client.get(f"/v1/jobs/{working}").json()
    assert told["state"] == "cancelled"
    assert 3 <= told["chunks"]["done"] < told["chunks"]["of"]
    # Each of them is done in order, and nothing of the one after it is mixed in but at most a chunk that had begun.
    assert {of for of, _ in runner.chunks[-300:]} == {other}


@pytest.mark.parametrize("way", ["", "/cancel", "/result"])
def test_anothers_job_is_none(office: Office, way: str) -> None:
    """Whoever did not hand it in is told what they would be told if it was not there."""
    job = submit_json(office, {**QUESTION, "inputs": [ROW]}).json()["id"]
    method = "POST" if way == "/cancel" else "GET"
    for unknown in (job, "0" * 32, "nothing", "..%2f" + job):
        answer = ask(office, method, f"/{unknown}{way}", key="other")
        assert is_problem(answer, 404), answer.text
    assert is_problem(ask(office, "DELETE", f"/{job}", key="other"), 404)
    assert ask(office, "GET", f"/{job}").json()["state"] == "waiting"
    assert ask(office, "GET", "", key="other").json() == {"jobs": []}
    ask(office, "POST", f"/{job}/cancel")


def test_scopes(office: Office) -> None:
    """Jobs are a way of asking: scope infer, and the models that a key is for."""
    row = HEAD + b"\n" + b",".join([b"0.1"] * 10)
    assert is_problem(submit(office, row, key="reader"), 403)
    assert is_problem(ask(office, "GET", "", key="reader"), 403)
    assert is_problem(submit(office, row, key="digits"), 403)
    assert office.server.client.get("/v1/jobs").status_code == 401


REFUSED: dict[str, tuple[int, str, dict[str, Any], bytes, str]] = {
    "no model": (404, "text/csv", {"model": "nothing"}, HEAD + b"\n1", ""),
    "no name": (422, "text/csv", {"model": ""}, HEAD + b"\n1", "model"),
    "no such version": (404, "text/csv", {"version": "99"}, HEAD + b"\n1", ""),
    "a seed that is none": (422, "text/csv", {"seed": "1e3"}, HEAD + b"\n1", "seed"),
    "a seed that is text": (422, "text/csv", {"seed": "seven"}, HEAD + b"\n1", "seed"),
    "too many samples": (422, "text/csv", {"samples": 10**9}, HEAD + b"\n1", "samples"),
    "a target": (422, "text/csv", {"samples": '{"target_stderr": 1}'}, HEAD + b"\n1", "samples"),
    "draws": (422, "text/csv", {"return_draws": "true"}, HEAD + b"\n1", "return_draws"),
    "an unknown field": (422, "text/csv", {"sneed": 7}, HEAD + b"\n1", "body"),
    "a verb": (422, "text/csv", {"verb": "dance"}, HEAD + b"\n1", "verb"),
    "samples of a prediction": (422, "text/csv", {"verb": "predict"}, HEAD + b"\n1", "body"),
    "no members": (409, "text/csv", {"method": "ensemble"}, HEAD + b"\n1", ""),
    "no rows": (422, "text/csv", {}, HEAD, "table"),
    "nothing": (422, "text/csv", {}, b"", "table"),
    "a first row that is none": (422, "text/csv", {}, HEAD + b"\n1", "table"),
    "columns that are missing": (422, "text/csv", {}, b"age,sex\n1,2", "table"),
    "a column twice": (422, "text/csv", {}, HEAD + b",age\n1", "table"),
    "no Parquet": (422, "application/vnd.apache.parquet", {}, b"PAR1", "table"),
    "bytes that are no text": (422, "text/csv", {}, b"\xff\xfe\x00", "table"),
    "another form": (415, "text/html", {}, b"<p>", ""),
    "too large": (413, "text/csv", {}, HEAD + b"\n" * 200_001, ""),
    "JSON that is none": (400, "application/json", {}, b"{", ""),
    "JSON without rows": (422, "application/json", {}, b'{"model": "diabetes"}', "inputs"),
    "JSON rows that are none": (422, "application/json", {}, b'{"model": "diabetes", "inputs": 3}', "inputs"),
    "JSON rows too short": (422, "application/json", {}, b'{"model": "diabetes", "inputs": [[1]]}', "inputs[0]"),
    "a model that is a list": (422, "application/json", {}, b'{"model": ["diabetes"], "inputs": [[1]]}', "model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(office: Office, case: str) -> None:
    """What can't become a job is refused in the contract's form, by field, and leaves nothing behind."""
    status, kind, question, body, field = REFUSED[case]
    before = set(office.directory.iterdir())
    answer = submit(office, body, kind=kind, **question)
    assert is_problem(answer, status), answer.text
    assert [each["field"] for each in answer.json()["errors"]] == ([field] if field else []), answer.text
    assert set(office.directory.iterdir()) <= before | {office.directory / "jobs.sqlite"}


def test_no_more_than_may_be(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    """A caller with as many jobs as may be is told to come later."""
    (directory := tmp_path / "jobs").mkdir()
    client = start_server(jobs_dir=directory, max_jobs=1).client
    body = {**QUESTION, "inputs": [ROW]}
    first = client.post("/v1/jobs", json=body)
    assert first.status_code == 202
    refused = client.post("/v1/jobs", json=body)
    assert is_problem(refused, 503)
    assert int(refused.headers["retry-after"]) > 0
    client.post(f"/v1/jobs/{first.json()['id']}/cancel").raise_for_status()
    assert client.post("/v1/jobs", json=body).status_code == 202


def test_a_database_that_is_gone(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    """Without its database nothing is taken, and all else is answered."""
    (directory := tmp_path / "jobs").mkdir()
    database = "postgresql://someone:canary-secret@127.0.0.1:1/none"
    client = start_server(jobs_dir=directory, jobs_database=database).client
    answer = client.post("/v1/jobs", json={**QUESTION, "inputs": [ROW]})
    assert is_problem(answer, 503)
    assert "canary" not in answer.text
    assert client.get("/v1/models").status_code == 200
    assert not list(directory.iterdir())


def test_kept_for_a_while(tmp_path: Path) -> None:
    """Jobs that are old go, with what never arrived; those that wait stay."""
    database = Database(url_of(tmp_path, ""))
    asked = files.Asked("", "m", "1", "d", None, "none", "fail", ".csv", 1, 1, time.time())
    waiting, over = (files.coming(tmp_path, digit * 32).accept(asked, tmp_path) for digit in "ab")
    left = files.coming(tmp_path, "c" * 32)
    for folder in (waiting, over):
        database.submit(folder.id, "")
    database.cancel(over.id)
    now = left.home.stat().st_mtime
    over.result(".csv").touch()  # what comes of a job makes it no younger
    os.utime(over.home, (now + 150, now + 150))
    sweep(tmp_path, database, 100.0, now + 50)
    assert {folder.id for folder in files.folders(tmp_path)} == {waiting.id, over.id, left.id}
    sweep(tmp_path, database, 100.0, now + 200)
    assert [folder.id for folder in files.folders(tmp_path)] == [waiting.id]
    assert database.standings([over.id]) == {}
    database.close()


def test_a_job_that_is_forgotten_meanwhile_is_not_there(tmp_path: Path) -> None:
    """Whoever lists jobs while one of them is removed is told of the others."""
    database = Database(url_of(tmp_path, ""))
    asked = files.Asked("", "m", "1", "d", None, "none", "fail", ".csv", 1, 1, 0.0)
    kept, gone = (files.coming(tmp_path, digit * 32).accept(asked, tmp_path) for digit in "ab")
    for folder in (kept, gone):
        database.submit(folder.id, "")
    gone.remove()
    desk = _Desk(Settings(), tmp_path, database)
    assert [job["id"] for job in desk._listed("")] == [kept.id]
    with pytest.raises(UnknownJob):
        desk._described(gone)
    database.close()


def test_without_a_directory(server: Server) -> None:
    """There are no jobs unless they are asked for, and the command says what it needs."""
    assert server.client.get("/v1/jobs").status_code == 404
    command = [sys.executable, "-m", "service", "jobs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--jobs-dir" in done.stderr


def test_one_at_a_time(tmp_path: Path, start_runner: Callable[..., Runner]) -> None:
    """A second process on the same jobs says so, and ends."""
    first = start_runner(jobs_dir=tmp_path)
    first.wait_for("working on the jobs")
    command = [sys.executable, "-m", "service", "jobs", f"--jobs-dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "another process" in done.stderr
    first.stop()


def is_problem(answer: httpx.Response, status: int) -> bool:
    """Whether it is a refusal in the contract's form."""
    told = answer.json()
    form = {"type", "title", "status", "detail", "errors", "request_id"}
    return (
        answer.status_code == status == told["status"]
        and answer.headers["content-type"] == "application/problem+json"
        and told.keys() == form
    )
