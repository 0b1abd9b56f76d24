"""Files are scored as their rows would be, in bounded parts; what was stopped is taken up again to the same bytes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pandas as pd
import pytest

from penumbra import Client
from penumbra.inputs import Inputs
from penumbra.scoring import Job, TableError, job, score
from penumbra.scoring.tables import opened
from tests.api.live import Server
from tests.client.rude import Rude
from tests.objects import BUCKET, ObjectServer

ROWS = 700
NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
INPUTS = Inputs([{"name": name} for name in NAMES])
OPTIONS = {"samples": 5, "seed": 7}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Rows with an identifier whose zeros matter, texts that need quotes, and columns in an order of their own."""
    numbers = np.random.default_rng(0).normal(0, 0.05, (ROWS, 10))
    table = pd.DataFrame(numbers, columns=NAMES)[NAMES[::-1]]
    table.insert(3, "id", [f"{number:05}" for number in range(ROWS)])
    table["note"] = [
        ("plain", "with, comma", 'with "quotes"', "on two\nlines", "")[number % 5] for number in range(ROWS)
    ]
    return table


@pytest.fixture
def rows(frame: pd.DataFrame, tmp_path: Path) -> Callable[[str], Path]:
    """The same rows as a file of any kind."""

    def write(name: str) -> Path:
        path = tmp_path / name
        if path.suffix == ".parquet":
            frame.to_parquet(path, index=False, row_group_size=150)
        else:
            frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
        return path

    return write


def read(path: Path) -> list[list[str]]:
    """The cells of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def expected(server: Server, frame: pd.DataFrame, **options: Any) -> dict[str, Any]:
    """The columns of one request for all rows."""
    with Client(server.url) as client:
        names = client.model("diabetes").output_names
        return client.sample("diabetes", frame[NAMES].to_numpy(), **options).columns(names)


@pytest.mark.parametrize("kind", ["rows.csv", "rows.tsv", "rows.parquet"])
@pytest.mark.parametrize("result", ["out.csv", "out.tsv", "out.parquet"])
def test_a_file_is_scored_as_its_rows_would_be(
    server: Server, rows: Any, frame: pd.DataFrame, tmp_path: Path, kind: str, result: str
) -> None:
    """Every number of one large request, to the last digit, beside what is carried along; nothing else is left."""
    out = tmp_path / result
    with Client(server.url) as client:
        outcome = score(client, Job("diabetes", options=OPTIONS, batch_rows=64), rows(kind), out)
    assert (outcome.rows, outcome.blank, outcome.before) == (ROWS, 0, 0)
    wanted = expected(server, frame, **OPTIONS)
    if out.suffix == ".parquet":
        found = pd.read_parquet(out)
        assert list(found) == ["id", "note", *wanted]
        assert found["id"].tolist() == frame["id"].tolist()
        assert all(np.array_equal(found[name], column) for name, column in wanted.items())
    else:
        head, *cells = read(out)
        assert head == ["id", "note", *wanted]
        assert [line[:2] for line in cells] == frame[["id", "note"]].to_numpy().tolist()
        assert [list(map(float, line[2:])) for line in cells] == np.column_stack(list(wanted.values())).tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({kind, result})


def test_predictions_and_classes(server: Server, tmp_path: Path) -> None:
    """A classification has a label, and a column for each class."""
    source, out = tmp_path / "digits.csv", tmp_path / "out.csv"
    pixels = np.random.default_rng(0).integers(0, 17, (20, 64))
    with Client(server.url) as client:
        known = client.model("digits")
        pd.DataFrame(pixels, columns=known.input_names).to_csv(source, index=False)
        score(client, Job("digits", prefix="p_", batch_rows=7), source, out)
        answer = client.predict("digits", pixels)
    head, *lines = read(out)
    assert head == ["p_label", *(f"p_probability_{name}" for name in known.output_names)]
    assert [line[0] for line in lines] == answer.labels
    assert [list(map(float, line[1:])) for line in lines] == answer.probabilities.tolist()


class Killed(BaseException):
    """Stands for whatever can't be caught."""


@pytest.mark.parametrize("result", ["out.csv", "out.parquet"])
@pytest.mark.parametrize("at", [0, 1, 3, 11])
def test_what_was_stopped_is_taken_up_again(
    server: Server, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, at: int
) -> None:
    """Stopped while any part, or the whole, is written, and asked again: the same bytes, no part asked for twice."""
    source, whole, out = rows("rows.csv"), tmp_path / f"whole-{result}", tmp_path / result
    asked = Job("diabetes", options={"samples": 3}, batch_rows=64)
    put, written = job.Parts._put, []

    def put_or_die(parts: Any, name: str, write: Any) -> None:
        if len(written) == at:
            (parts._home / "aside").write_bytes(b"half of it")
            raise Killed
        put(parts, name, write)
        written.append(name)

    with Client(server.url) as client:
        monkeypatch.setattr(job.Parts, "_put", put_or_die)
        with pytest.raises(Killed):
            score(client, asked, source, out)
        monkeypatch.undo()
        assert not out.exists()
        outcome = score(client, asked, source, out)
        assert outcome.before == min(max(0, at - 1) * 64, ROWS)
        # The seed was drawn once, and noted before anything else.
        again = Job("diabetes", options=outcome.job.options, batch_rows=64)
        score(client, again, source, whole)
    assert out.read_bytes() == whole.read_bytes()


def test_a_killed_process_is_taken_up_again(server: Server, frame: pd.DataFrame, tmp_path: Path) -> None:
    """The real thing: SIGKILL to the command line when its first parts are there, and the same command again."""
    source, out, whole = tmp_path / "rows.csv", tmp_path / "out.csv", tmp_path / "whole.csv"
    pd.concat([frame] * 20).to_csv(source, index=False)
    command = [sys.executable, "-m", "penumbra", "score", "diabetes", str(source), "--seed", "7", "-s", "100"]
    command += ["--batch-rows", "50", "--concurrency", "2", "--url", server.url, "-o"]
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(tmp_path.glob("out.csv.parts/*.part"))) < 3:
        pass
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*command, str(out)], capture_output=True, text=True, check=True)
    assert "of them were done before" in done.stderr
    subprocess.run([*command, str(whole)], capture_output=True, check=True)
    assert out.read_bytes() == whole.read_bytes()


def test_parts_of_something_else_are_not_gone_on_with(
    server: Server, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed, another table: the message says what is different, and --restart begins anew."""
    source, out = rows("rows.csv"), tmp_path / "out.csv"
    with Client(server.url) as client:
        known = client.model("diabetes")
        parts = job.Parts(out)

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(job.Parts, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score(client, Job("diabetes", options=OPTIONS), source, out)
        monkeypatch.undo()
        assert parts.told()["digest"] == known.digest
        with pytest.raises(TableError, match=r"the beginning of another result \(options\).*--restart"):
            score(client, Job("diabetes", options={**OPTIONS, "seed": 8}), source, out)
        with source.open("a") as file:
            file.write(source.read_text().splitlines()[-1] + "\n")
        with pytest.raises(TableError, match=r"another result \(the table\)"):
            score(client, Job("diabetes", options=OPTIONS), source, out)
        assert score(client, Job("diabetes", options=OPTIONS), source, out, restart=True).rows > 0
        with pytest.raises(TableError, match="exists already"):
            score(client, Job("diabetes", options=OPTIONS), source, out)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("result", ["out.csv", "out.parquet"])
def test_rows_without_their_numbers(
    server: Server, frame: pd.DataFrame, tmp_path: Path, name: str, result: str
) -> None:
    """They fail the job, by row and column, or are left blank; the others have the answers that they always have."""
    source, out = tmp_path / name, tmp_path / result
    table = frame.copy()
    table.loc[[2, 70, *range(128, 192)], "bmi"] = np.nan
    table.loc[3, "age"] = np.inf
    write = {".csv": table.to_csv, ".parquet": table.to_parquet}[source.suffix]
    write(source, index=False)
    with Client(server.url) as client:
        with pytest.raises(TableError, match="row 3: bmi is missing, NaN or infinite; --missing blank"):
            score(client, Job("diabetes", options=OPTIONS, batch_rows=64), source, out)
        asked = Job("diabetes", options=OPTIONS, batch_rows=64, missing="blank")
        assert score(client, asked, source, out, restart=True).blank == 67
    wanted = expected(server, frame, **OPTIONS)["progression_mean"].copy()
    wanted[[2, 3, 70, *range(128, 192)]] = np.nan
    found = pd.read_csv(out) if out.suffix == ".csv" else pd.read_parquet(out)
    assert np.allclose(found["progression_mean"], wanted, rtol=1e-15, equal_nan=True)
    assert len(found) == ROWS


HEAD = ",".join(NAMES) + "\n"
ZEROS = "0," * 9 + "0"
MISTAKES: list[tuple[str, str, str, str]] = [
    ("none.csv", "", "out.csv", "there is no file"),
    ("rows.txt", "a\n1\n", "out.csv", "must end in .csv, .tsv or .parquet"),
    ("rows.csv", "", "out.csv", "is empty"),
    ("rows.csv", HEAD, "out.csv", "has no rows"),
    ("rows.csv", "age,sex\n1,2\n", "out.csv", "has no column bmi, bp, s1"),
    ("rows.csv", f"age,{HEAD}", "out.csv", "two columns called 'age'"),
    ("rows.csv", f"{HEAD}1,2\n", "out.csv", "row 1: has 2 values, expected 10"),
    ("rows.csv", f"{HEAD}{ZEROS}\n{ZEROS}0x\n", "out.csv", "row 2: s6 must be a number, not '00x'"),
    ("rows.csv", f"{HEAD}{ZEROS}\n", "out.txt", "must end in .csv"),
    ("rows.csv", f"progression_mean,{HEAD}0,{ZEROS}\n", "out.csv", "columns called progression_mean: --keep none"),
    ("rows.csv", f"{HEAD}{ZEROS}\n", "none/out.csv", "there is no directory"),
    ("rows.parquet", "not parquet", "out.csv", "can't be read as Parquet"),
]


@pytest.mark.parametrize(("name", "text", "result", "message"), MISTAKES, ids=[each[3] for each in MISTAKES])
def test_mistakes_are_told_in_a_sentence(
    server: Server, tmp_path: Path, name: str, text: str, result: str, message: str
) -> None:
    """With the file, the row and the column."""
    source = tmp_path / name
    if text or name == "rows.csv":
        source.write_text(text)
    with Client(server.url) as client, pytest.raises(TableError, match=message):
        score(client, Job("diabetes", options=OPTIONS), source, tmp_path / result)
    assert not (tmp_path / result).exists()


def test_a_file_that_is_not_utf8(server: Server, tmp_path: Path) -> None:
    """Is told so, not guessed at; a byte order mark, as spreadsheets write it, does no harm."""
    source = tmp_path / "rows.csv"
    source.write_bytes(b"\xef\xbb\xbf" + ",".join(NAMES).encode() + b"\r\n" + b"0," * 9 + b"0\r\n\r\n")
    with Client(server.url) as client:
        assert score(client, Job("diabetes"), source, tmp_path / "fine.csv").rows == 1
        source.write_bytes((",".join([*NAMES, "note"]) + "\n" + "0," * 10).encode() + b"\xe9\n")
        with pytest.raises(TableError, match="is not UTF-8"):
            score(client, Job("diabetes"), source, tmp_path / "out.csv")


def test_memory_is_bounded_by_batches(
    server: Server, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more batches are read ahead than twice as many as are asked at a time, however slow the answers are."""
    out, lock = tmp_path / "out.csv", threading.Lock()
    held, most = 0, 0
    scored = job._scored

    def counted(*arguments: Any) -> Any:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        try:
            return scored(*arguments)
        finally:
            with lock:
                held -= 1

    taken: list[int] = []
    batches = job.opened(rows("rows.csv")).__class__.batches

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        for batch in batches(self, *arguments, **options):
            taken.append(len(list(tmp_path.glob("out.csv.parts/*.part"))))
            yield batch

    monkeypatch.setattr(job, "_scored", counted)
    monkeypatch.setattr(job.opened(rows("rows.csv")).__class__, "batches", watched)
    with Client(server.url) as client:
        score(client, Job("diabetes", batch_rows=10), rows("rows.csv"), out, concurrency=3)
    assert most <= 3
    assert len(taken) == ROWS / 10
    assert max(number - parts for number, parts in enumerate(taken)) <= 2 * 3


def test_a_server_that_fails_leaves_what_is_done(rude: Callable[..., Rude], tmp_path: Path, rows: Any) -> None:
    """The error is the client's, in a sentence; nothing half-written is called a result."""
    from penumbra import ConnectionFailed, Patience

    out = tmp_path / "out.csv"
    server = rude([])
    with (
        Client(server.url, patience=Patience(retries=1, first_pause=0.0)) as client,
        pytest.raises(ConnectionFailed),
    ):
        score(client, Job("diabetes"), rows("rows.csv"), out)
    assert not out.exists()


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("result", ["out.csv", "out.parquet"])
def test_prediction_sets_are_texts_in_files(server: Server, tmp_path: Path, result: str, missing: bool) -> None:
    """The labels of a set stand in one cell, in the classes' order; without a calibration there is no such column."""
    pixels = np.random.default_rng(0).integers(0, 17, (40, 64)).astype(float)
    with Client(server.url) as client:
        table = pd.DataFrame(pixels, columns=client.model("digits").input_names)
        sets = client.sample("digits", pixels, seed=7, interval=0.99).prediction_set
        assert sets is not None
        assert max(map(len, sets)) > 1
        if missing:
            table.iloc[3, 5] = np.nan
        source, out = tmp_path / "rows.csv", tmp_path / result
        table.to_csv(source, index=False)
        asked = Job("digits", options={"seed": 7, "interval": 0.99}, missing="blank", batch_rows=16)
        score(client, asked, source, out)
        written = pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out, dtype={"prediction_set": str})
        cells = written["prediction_set"].tolist()
        assert [cell for cell in cells if isinstance(cell, str)] == [
            "|".join(each) for row, each in enumerate(sets) if not missing or row != 3
        ]
        short = tmp_path / f"short-{result}"
        score(client, Job("digits", options={"seed": 7, "samples": 20}, missing="blank"), source, short)
        names = (pd.read_parquet(short) if out.suffix == ".parquet" else pd.read_csv(short)).columns
    assert "label" in names
    assert "prediction_set" not in names


def test_a_file_in_an_object_store(
    server: Server, s3: ObjectServer, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is read there by its URL, to the same result as here; what else is there is not taken for a table."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, s3.environment[name])
    source = rows("rows.parquet")
    obstore.put(s3.client("tables"), "rows.parquet", source.read_bytes())
    endpoint = s3.environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    where = f"?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    asked = Job("diabetes", options=OPTIONS, batch_rows=64)
    with Client(server.url) as client:
        score(client, asked, source, tmp_path / "here.parquet")
        score(client, asked, f"s3://{BUCKET}/tables/rows.parquet{where}", tmp_path / "there.parquet")
        assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
        with pytest.raises(TableError, match="can't be read as Parquet"):
            score(client, asked, f"s3://{BUCKET}/tables/none.parquet{where}", tmp_path / "none.parquet")
        with pytest.raises(TableError, match=r"must end in .parquet"):
            score(client, asked, f"s3://{BUCKET}/tables/rows.csv{where}", tmp_path / "none.parquet")


@pytest.mark.parametrize("groups", [1, 150, 4000])
@pytest.mark.parametrize("size", [1, 64, 150, 1000])
def test_any_batch_can_be_had_by_itself(frame: pd.DataFrame, tmp_path: Path, groups: int, size: int) -> None:
    """Of Parquet, whatever its row groups: the rows that reading from the beginning would give."""
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path, index=False, row_group_size=groups)
    table = opened(path)
    for batch in list(table.batches(size, INPUTS, ["id"]))[:: 1 + 100 // size]:
        alone = table.batch(batch.first, size, INPUTS, ["id"])
        assert (alone.first, alone.rows.count) == (batch.first, batch.rows.count)
        assert bytes(alone.rows.flat) == bytes(batch.rows.flat)
        assert alone.kept["id"].to_pylist() == batch.kept["id"].to_pylist()


def test_parts_may_be_missing_anywhere(server: Server, rows: Any, tmp_path: Path) -> None:
    """Where one in the midst is gone, rows are asked for again from there on, to the same bytes."""
    source, out, whole = rows("rows.parquet"), tmp_path / "out.parquet", tmp_path / "whole.parquet"
    asked = Job("diabetes", options=OPTIONS, batch_rows=64)

    def stop(done: int, _total: int, _before: int) -> None:
        if done >= 256:
            raise Killed

    with Client(server.url) as client:
        with pytest.raises(Killed):
            score(client, asked, source, out, progress=stop)
        made = sorted(out.with_name("out.parquet.parts").glob("*.part"))
        assert len(made) == 4
        made[2].unlink()
        assert score(client, asked, source, out).before == 128
        score(client, asked, source, whole)
    assert out.read_bytes() == whole.read_bytes()
