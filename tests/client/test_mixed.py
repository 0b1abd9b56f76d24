"""Models of tables with texts, truth values and gaps: however a row is held or written, its answer is that of HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from penumbra import Client, InvalidRequest
from penumbra.__main__ import main
from penumbra.inputs import Coded, Inputs
from penumbra.rows import Rows, Table
from penumbra.rows import read as read_rows
from penumbra.scoring import Job, TableError, job, score
from penumbra.scoring.tables import opened
from tests.api.live import ROOT, Server
from tests.client.houses import ROWS, train_houses

OPTIONS = {"samples": 20, "seed": 7}
ROW = {"rooms": 3, "heating": "gas", "garden": True, "age": None}
GIVEN: list[Any] = [
    ROW,
    [ROW],
    [list(ROW.values())],
    np.array([list(ROW.values())], object),
    {name: [value] for name, value in ROW.items()},
    pd.DataFrame([ROW])[["age", "garden", "rooms", "heating"]],
    pd.DataFrame([ROW]).astype({"heating": "category", "garden": "boolean", "age": "Float64", "rooms": "Int8"}),
    pd.DataFrame([ROW]).astype({"heating": "string", "age": float}),
    pl.DataFrame([ROW]),
    pl.DataFrame([ROW]).with_columns(pl.col("heating").cast(pl.Categorical), pl.col("age").cast(pl.Float64)),
    pa.table({name: [value] for name, value in ROW.items()}),
    pa.table({"heating": pa.array(["gas"]).dictionary_encode(), "rooms": [3], "garden": [True], "age": [np.nan]}),
]
INPUTS = Inputs(
    [
        {"name": "n", "kind": "number"},
        {"name": "gap", "kind": "number", "missing": True},
        {"name": "flag", "kind": "boolean"},
        {"name": "maybe", "kind": "boolean", "missing": True},
        {"name": "word", "kind": "category", "categories": ["a", "b c"]},
        {"name": "code", "kind": "category", "categories": ["07", "8001", "true"]},
    ]
)


class Houses(NamedTuple):
    """A service with a model that was trained from a file, and that file."""

    server: Server
    file: Path


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    """One for all tests of this file."""
    folder = tmp_path_factory.mktemp("houses")
    train_houses(folder)
    server = Server(store=folder / "store", answer_cache_bytes=0)
    yield Houses(server, folder / "houses.csv")
    server.stop()


def over_http(houses: Houses) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The file's rows as JSON has them, and the answer to one request for all of them."""
    frame = pd.read_csv(houses.file)[list(ROW)]
    rows = [
        {name: None if value != value else value for name, value in row.items()} for row in frame.to_dict("records")
    ]
    answer = houses.server.client.post("/v1/models/houses/sample", json={"inputs": rows, **OPTIONS})
    assert answer.status_code == 200, answer.text
    return rows, answer.json()


@pytest.mark.parametrize("data", GIVEN, ids=lambda data: type(data).__module__)
def test_a_row_is_the_same_whoever_holds_it(houses: Houses, face: Any, data: Any) -> None:
    """Frames, arrays, lists and dicts, in a request, as bytes and in a stream: the bytes of HTTP."""
    for verb, options in (("predict", {}), ("sample", OPTIONS)):
        sent = {"inputs": [ROW], **options}
        expected = houses.server.client.post(f"/v1/models/houses/{verb}", json=sent).content
        for binary in (None, True):
            with face(houses.server.url, binary=binary) as client:
                assert getattr(client, verb)("houses", data, **options).to_json() == expected
    with face(houses.server.url) as client:
        assert list(client.stream("houses", data, **OPTIONS))[-1].to_json() == expected


def test_many_rows_are_those_of_one_request(houses: Houses, face: Any) -> None:
    """A frame with gaps in every kind of column, cut into chunks, as bytes and as JSON."""
    rows, expected = over_http(houses)
    for binary in (True, False):
        with face(houses.server.url, chunk_rows=50, binary=binary) as client:
            for data in (rows, pd.read_csv(houses.file)[list(ROW)], pl.DataFrame(rows)):
                assert client.sample("houses", data, **OPTIONS).mean.tolist() == expected["mean"]


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet", ".texts.parquet"])
def test_the_file_that_it_was_trained_from(houses: Houses, tmp_path: Path, kind: str) -> None:
    """Is scored as its rows over HTTP are; stopped and taken up again, to the same bytes."""
    _, expected = over_http(houses)
    source, out, whole = tmp_path / f"rows{kind}", tmp_path / "out.csv", tmp_path / "whole.csv"
    if kind == ".parquet":
        pd.read_csv(houses.file, dtype={"id": str}).to_parquet(source)
    elif kind == ".texts.parquet":
        pd.read_csv(houses.file, dtype=str).to_parquet(source)
    else:
        frame = pd.read_csv(houses.file, dtype=str, keep_default_na=False)
        frame.to_csv(source, index=False, sep="\t" if kind == ".tsv" else ",")
    asked = Job("houses", options=OPTIONS, batch_rows=32)
    with Client(houses.server.url) as client:
        assert score(client, asked, source, whole).blank == 0
        table, parts = opened(source), job.Parts(out)
        work = job.planned(client, asked, table, out, {})
        parts.begin(work.stamped(table), {})
        parts.add(work, work.part(client, next(table.batches(32, Inputs(work.known.inputs), work.keep))))
        assert score(client, asked, source, out).before == 32
    assert out.read_bytes() == whole.read_bytes()
    found = pd.read_csv(out, dtype={"id": str})
    assert found["price_mean"].tolist() == np.ravel(expected["mean"]).tolist()
    assert found["id"].tolist() == [f"{number:04}" for number in range(ROWS)]


def test_a_gap_that_may_not_be(houses: Houses, tmp_path: Path) -> None:
    """Fails with advice, leaves nothing behind where nothing was done, and the advice goes on from what was."""
    frame = pd.read_csv(houses.file, dtype={"id": str})
    frame["rooms"] = frame["rooms"].astype(float)
    frame.loc[100, "rooms"] = np.nan
    frame.to_csv(source := tmp_path / "rows.csv", index=False)
    out = tmp_path / "out.csv"
    with Client(houses.server.url) as client:
        for size, left in ((200, False), (32, True)):
            asked = Job("houses", options={"samples": 5}, batch_rows=size)
            with pytest.raises(TableError, match=r"row 101: rooms is missing.*; --missing blank leaves"):
                score(client, asked, source, out, concurrency=1)
            assert (tmp_path / "out.csv.parts").exists() == left
        outcome = score(client, Job("houses", options={"samples": 5}, batch_rows=32, missing="blank"), source, out)
    assert (outcome.before > 0, outcome.blank) == (True, 1)
    assert np.flatnonzero(pd.read_csv(out)["price_mean"].isna()).tolist() == [100]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rooms": "3"}, r"inputs\[0\]\.rooms: must be a number$"),
    ({"rooms": True}, r"inputs\[0\]\.rooms: must be a number$"),
    ({"rooms": None}, r"inputs\[0\]\.rooms: is missing: the model was trained without missing values here"),
    ({"age": float("inf")}, r"inputs\[0\]\.age: must be a finite number"),
    ({"age": 10**400}, r"inputs\[0\]\.age: must be a finite number"),
    ({"heating": 0}, r"inputs\[0\]\.heating: must be a text, or missing"),
    ({"heating": True}, r"inputs\[0\]\.heating: must be a text, or missing"),
    ({"garden": 1}, r"inputs\[0\]\.garden: must be true or false"),
    ({"garden": "yes"}, r"inputs\[0\]\.garden: must be true or false"),
    ({"floors": 2}, r"inputs: has an unknown 'floors'; known: rooms, heating, garden, age"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_values_of_another_kind_are_refused(houses: Houses, face: Any, change: dict[str, Any], message: str) -> None:
    """By row and column, with what is expected."""
    with face(houses.server.url) as client, pytest.raises(InvalidRequest, match=message) as caught:
        client.predict("houses", [ROW | change])
    assert caught.value.complaints


def test_numbers_alone_are_understood_all_the_same(houses: Houses, face: Any) -> None:
    """What the service can't make anything of is looked at again with the manifest: codes are no categories."""
    with face(houses.server.url) as client:
        with pytest.raises(InvalidRequest, match="heating: must be a text, or missing"):
            client.predict("houses", [[3.0, 0.0, 1.0, 20.0]])
        with pytest.raises(InvalidRequest, match="has no 'rooms', but an unknown 'roms'; known: rooms"):
            client.predict("houses", [{"roms": 3, "heating": 1, "garden": 1, "age": 20}])
        with pytest.raises(InvalidRequest, match="inputs: lacks heating, garden, age"):
            client.predict("houses", [{"rooms": 3}])


def test_rows_on_a_command_line(houses: Houses, capsys: pytest.CaptureFixture[str]) -> None:
    """By name or in order, a blank is missing, quotes hold commas; what the model takes is shown."""
    expected = houses.server.client.post("/v1/models/houses/predict", json={"inputs": [ROW]}).text

    def run(*words: str) -> tuple[int, str, str]:
        return (main([*words, "--url", houses.server.url]), *capsys.readouterr())

    for row in ("rooms=3,heating=gas,garden=true,age=", "garden=True, age=NA,rooms=3,heating=gas,", '3,"gas",true,'):
        assert run("predict", "houses", row, "--json") == (0, expected + "\n", "")
    told = run("predict", "houses", "3,gaz,true,20")[2]
    assert told == "penumbra: row 1: heating has no category seen in training\n"
    assert run("predict", "houses", "3,gas,yes,x")[::2] == (
        1,
        "penumbra: row 1: age must be a number, not 'x'; row 1: garden must be true or false, not 'yes'\n",
    )
    lines = run("model", "houses")[1].splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[3:7]] == [
        "1 … 7",
        "'gas', 'heat pump', 'oil'; others and missing ones are unknown",
        "true or false, may be missing",
        "0 … 89, may be missing",
    ]


@pytest.mark.parametrize("page", ["applications.md", "data-science.md"])
def test_pages_do_what_they_say(
    houses: Houses, page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their examples of such models, which the service has not unless one is trained."""
    monkeypatch.chdir(houses.file.parent)
    text = (ROOT / "docs" / page).read_text()
    ((program, printed),) = re.findall(r'```python\n([^`]*"houses"[^`]*)```\n+```text\n(.*?)```', text, re.DOTALL)
    with Client(houses.server.url) as client:
        exec(program, {"client": client, "pd": pd})
    assert capsys.readouterr().out == printed


def test_values_and_the_numbers_that_stand_for_them() -> None:
    """As JSON has them and as a file has them; back again they are what JSON has."""
    numbers = [1.5, -1.0, 1.0, 0.0, 1.0, 1.0]
    values = [1.5, -1.0, True, False, "b c", "8001"]
    typed = Table(None, [[value] for value in [1.5, np.float32(-1), np.True_, False, "b c", 8001.0]])
    written = Table(None, [[text] for text in ["1.5", " -1", "TRUE", "false ", " b c", "8001"]], written=True)
    for table in (typed, written, read_rows([values])):
        coded = INPUTS.read(table)
        assert coded.flat.tolist() == numbers
        assert coded.nested() == [values]
        assert INPUTS.read(coded) is coded
        assert isinstance(coded, Coded)
    absent = Table(None, [[text] for text in ["0", "NA", "true", "?", "", "2"]], written=True)
    assert INPUTS.read(absent).nested() == [[0.0, None, True, None, None, None]]
    given: list[list[Any]] = [[0.0], [np.nan], [True], [pd.NA], [None], [True]]
    assert INPUTS.read(Table(None, given)).nested() == [[0.0, None, True, None, None, "true"]]


def test_written_values_of_another_kind_are_told_with_row_and_text() -> None:
    """One complaint for each column."""
    texts = [["1", "x", "y"], ["", "", "1e"], ["yes", "true", "1"], ["", "", ""], ["a", "b", ""], ["07", "7", ""]]
    _, complaints = INPUTS.coded(Table(None, texts, written=True))
    assert [tuple(each) for each in complaints] == [
        (0, "flag", "must be true or false, not 'yes'"),
        (1, "n", "must be a number, not 'x'"),
        (2, "gap", "must be a number, not '1e'"),
    ]


def test_numbers_that_may_be_missing_go_in_as_they_are() -> None:
    """NaN where it may be, and nothing copied; where it may not be, or is infinite, it is a gap."""
    inputs = Inputs([{"name": "a"}, {"name": "b", "missing": True}])
    rows = Rows(None, memoryview(np.array([1.0, np.nan, np.nan, np.inf])), 2)
    coded, complaints = inputs.coded(rows)
    assert (coded.flat is rows.flat, complaints) == (True, [])
    assert inputs.gaps(coded) == [(1, 0), (1, 1)]
    assert coded.part(0, 1).nested() == [[1.0, None]]
    assert coded.without({1}).nested() == [[1.0, None]]
    assert inputs.read(Rows(("b", "a"), memoryview(np.array([np.nan, 1.0])), 2)).nested() == [[1.0, None]]
