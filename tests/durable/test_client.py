"""Jobs by way of the client and its command line: from a table to its result, with the service and who works for it."""

from __future__ import annotations

import doctest
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from penumbra import AccessDenied, Client, InvalidRequest, JobFailed, NotApplicable, UnknownJob
from penumbra import __main__ as command_line
from penumbra.scoring import Job, score
from tests.api.live import ROOT
from tests.client.faces import FACES
from tests.docs.test_examples import ADDRESS
from tests.durable.conftest import NAMES, Office
from tests.durable.runners import Runner

SAMPLING: dict[str, Any] = {"samples": 20, "seed": 7}


@pytest.fixture(scope="module")
def rows(table: bytes) -> pd.DataFrame:
    """The numbers of the table."""
    return pd.read_csv(io.BytesIO(table))[NAMES]


@pytest.fixture
def run(office: Office, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command against the service: (exit code, standard output, standard error)."""
    monkeypatch.setenv("PENUMBRA_URL", office.server.url)
    monkeypatch.setenv("PENUMBRA_API_KEY", office.keys["one"])

    def command(*words: str) -> tuple[int, str, str]:
        code = command_line.main(words)
        return (code, *capsys.readouterr())

    return command


def test_results(
    office: Office, table: bytes, rows: pd.DataFrame, tmp_path: Path, start_runner: Callable[..., Runner]
) -> None:
    """A file has the bytes of `penumbra score`, rows the numbers of one call, on both faces."""
    (source := tmp_path / "rows.csv").write_bytes(table)
    runner = start_runner(jobs_dir=office.directory)
    with Client(office.server.url, api_key=office.keys["one"]) as client:
        score(client, Job("diabetes", options=SAMPLING), source, tmp_path / "scored.csv")
        sampled = client.sample("diabetes", rows, **SAMPLING)
        predicted = client.predict("diabetes", rows)
    for face in FACES:
        with face(office.server.url, api_key=office.keys["one"]) as client:
            seen: list[tuple[int, int]] = []
            job = client.submit("diabetes", source, **SAMPLING)
            out = job.result(tmp_path / "out.csv", progress=lambda done, of: seen.append((done, of)))  # noqa: B023
            assert out.read_bytes() == (tmp_path / "scored.csv").read_bytes()
            # How many there are is an estimate until the file has been read to its end; what is done only grows.
            assert [done for done, _ in seen] == sorted(done for done, _ in seen)
            assert seen[-1] == (610, 610)
            assert client.job(job.id).told == job.told

            of_rows = client.submit("diabetes", rows[NAMES[::-1]], **SAMPLING)
            of_numbers = client.submit("diabetes", rows.to_numpy(), verb="predict")
            got = pd.read_csv(of_rows.result(tmp_path / "rows.out.csv"))
            assert np.array_equal(got["progression_mean"], sampled.mean[:, 0])
            assert np.array_equal(got["progression_upper"], sampled.interval.upper[:, 0])
            got = pd.read_csv(of_numbers.result(tmp_path / "numbers.csv"))
            assert np.array_equal(got["progression_mean"], predicted.mean[:, 0])

            holed = rows.to_numpy().copy()
            holed[3, 2] = np.nan
            blank = client.submit("diabetes", holed, verb="predict", missing="blank")
            assert pd.read_csv(blank.result(out))["progression_mean"].isna().sum() == 1
            (tmp_path / "bad.csv").write_text(",".join(NAMES) + "\n" + "0.1," * 9 + "1\n" + "0.1," * 9 + "x\n")
            with pytest.raises(JobFailed, match="row 2: s6 must be a number, not 'x'"):
                client.submit("diabetes", tmp_path / "bad.csv", samples=5).wait()
            with pytest.raises(InvalidRequest, match=r"must end in \.csv: the result is text/csv"):
                job.result(tmp_path / "out.parquet")
    runner.stop()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("face", FACES)
def test_cancelled_and_forgotten(office: Office, rows: pd.DataFrame, face: Any) -> None:
    """What nobody needs any more; one key's jobs are none of another's."""
    with face(office.server.url, api_key=office.keys["one"]) as client:
        job = client.submit("diabetes", rows, samples=5)
        assert client.jobs()[0].id == job.id
        with pytest.raises(NotApplicable, match="this job is waiting: cancel it first"):
            job.forget()
        with face(office.server.url, api_key=office.keys["other"]) as other:
            assert other.jobs() == []
            with pytest.raises(UnknownJob):
                other.job(job.id)
        assert job.cancel().state == "cancelled"
        with pytest.raises(JobFailed, match="the job was cancelled"):
            job.wait()
        job.forget()
        assert job.id not in [each.id for each in client.jobs()]


@pytest.mark.parametrize("face", FACES)
def test_refused(office: Office, tmp_path: Path, face: Any) -> None:
    """Also while a table is still on its way: the caller hears why, not that a connection broke."""
    (large := tmp_path / "large.csv").write_bytes(",".join(NAMES).encode() + b"\n" * 20_000_000)
    (wrong := tmp_path / "wrong.csv").write_text("age,sex\n1,2\n")
    with face(office.server.url, api_key=office.keys["one"]) as client:
        with pytest.raises(InvalidRequest, match="the table is larger than 200000 bytes"):
            client.submit("diabetes", large)
        with pytest.raises(InvalidRequest, match="table: has no column bmi"):
            client.submit("diabetes", wrong)
        with pytest.raises(InvalidRequest, match="samples: must be a whole number: jobs know no target"):
            client.submit("diabetes", wrong, samples={"target_stderr": 1.0})
    with face(office.server.url, api_key="pen_unknown") as client, pytest.raises(AccessDenied):
        client.submit("diabetes", large)


def test_the_command_line(
    office: Office, run: Any, table: bytes, tmp_path: Path, start_runner: Callable[..., Runner]
) -> None:
    """An id is all that standard output has of a table that is handed in; the result is that of `penumbra score`."""
    (source := tmp_path / "rows.csv").write_bytes(table)
    runner = start_runner(jobs_dir=office.directory)
    code, out, err = run("job", "submit", "diabetes", str(source), "-s", "20", "--seed", "7")
    job = out.strip()
    # Some cells have lines of their own.
    assert (code, err) == (0, f"about 732 rows; seed 7; penumbra job result {job} -o OUT waits for them\n")
    code, out, err = run("job", "result", job, "-o", str(tmp_path / "out.csv"))
    assert (code, out, err) == (0, "", f"610 rows in {tmp_path / 'out.csv'}\n")
    run("score", "diabetes", str(source), "-o", str(tmp_path / "scored.csv"), "-s", "20", "--seed", "7")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "scored.csv").read_bytes()
    _, out, _ = run("job", "status", job)
    heads, line, _, asked = out.splitlines()
    assert heads.split() == ["job", "state", "model", "rows", "of", "handed", "in"]
    assert line.split()[:6] == [job, "done", "diabetes", "1", "610", "610"]
    assert asked == "sample · samples 20, seed 7"
    _, out, _ = run("job", "submit", "diabetes", str(source), "--predict", "--json")
    other = json.loads(out)
    assert (other["verb"], other["options"]) == ("predict", None)
    runner.stop()
    assert json.loads(run("job", "status", job, "--json")[1])["state"] == "done"
    listed = [line.split()[0] for line in run("jobs")[1].splitlines()]
    assert listed[:3] == ["job", other["id"], job] or set(listed[1:3]) == {other["id"], job}
    assert run("job", "cancel", job)[1].splitlines()[1].split()[1] == "done"
    assert run("job", "forget", job) == (0, "", "")
    assert run("job", "status", job) == (1, "", "penumbra: there is no such job\n")
    assert run("job", "submit", "diabetes", "none.csv")[::2] == (
        1, "penumbra: there is no file none.csv\n",
    )  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        run("job")


def test_the_page_does_what_it_says(
    office: Office, table: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_runner: Callable[..., Runner]
) -> None:
    """The examples of docs/jobs.md, in Python and in a shell, in a folder that has the table."""
    page = (ROOT / "docs" / "jobs.md").read_text()
    (tmp_path / "patients.csv").write_bytes(table)
    monkeypatch.chdir(tmp_path)
    runner = start_runner(jobs_dir=office.directory)

    known = page.replace(f'"{ADDRESS}"', f'"{office.server.url}", api_key="{office.keys["one"]}"')
    test = doctest.DocTestParser().get_doctest(known, {}, "jobs.md", None, 0)
    report: list[str] = []
    results = doctest.DocTestRunner().run(test, out=report.append)
    assert (results.attempted > 5, results.failed) == (True, 0), "".join(report)

    (example,) = re.findall(r"```bash\n(job=[^`]*?)```", page)
    program = f'set -eu\npenumbra() {{ "{sys.executable}" -m penumbra "$@"; }}\nrm scored.csv\n{example}'
    environment = {**os.environ, "PENUMBRA_URL": office.server.url, "PENUMBRA_API_KEY": office.keys["one"]}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False, env=environment)
    runner.stop()
    assert done.returncode == 0, done.stderr
    assert "sample · samples 100, seed 7" in done.stdout
    assert (tmp_path / "scored.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
