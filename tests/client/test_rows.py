"""Whatever holds a table is read as the same rows, and what is no table is refused by row and column."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from penumbra import InvalidRequest
from penumbra.inputs import Inputs
from penumbra.rows import Rows, Table, read

NAMES = ("a", "b")
PLAIN = Inputs([{"name": name} for name in NAMES])
ROWS = [[1.0, 2.0], [3.0, 4.5]]
COLUMNS = {"a": [1, 3], "b": [2.0, 4.5]}

NAMED: list[Any] = [
    [{"a": 1, "b": 2}, {"b": 4.5, "a": 3}],
    [OrderedDict(a=1, b=2), {"a": np.float32(3), "b": 4.5}],
    COLUMNS,
    {"a": np.array([1, 3], np.uint8), "b": (2.0, 4.5)},
    pd.DataFrame(COLUMNS),
    pd.DataFrame(COLUMNS, index=["x", "y"]),
    pd.DataFrame(COLUMNS).astype({"a": "Int64", "b": "Float64"}),
    pd.DataFrame(COLUMNS).astype(object),
    pl.DataFrame(COLUMNS),
    pa.table(COLUMNS),
]
UNNAMED: list[Any] = [
    ROWS,
    [tuple(row) for row in ROWS],
    np.array(ROWS),
    np.array(ROWS, np.float16),
    np.asfortranarray(ROWS),
    np.repeat(np.array(ROWS), 2, axis=0)[::2],
    np.array(ROWS, object),
    [np.array(row) for row in ROWS],
    pd.DataFrame(ROWS),
    (row for row in ROWS),
]


@pytest.mark.parametrize("data", NAMED, ids=lambda data: type(data).__module__)
def test_tables_with_names(data: Any) -> None:
    """Rows are the same, whoever holds them; names come along."""
    rows = read(data)
    assert isinstance(rows, (Rows, Table))
    assert rows.names == NAMES
    rows = PLAIN.read(rows)
    assert rows.nested() == ROWS


@pytest.mark.parametrize("data", UNNAMED, ids=lambda data: type(data).__module__)
def test_tables_without_names(data: Any) -> None:
    """Numbers alone are in the manifest's order."""
    rows = read(data)
    assert rows.names is None
    assert rows.nested() == ROWS


def test_a_dict_of_numbers_is_one_row() -> None:
    """There is only one way to read it."""
    rows = read({"a": 1, "b": np.float64(2)})
    assert isinstance(rows, Rows)
    assert (rows.names, rows.nested()) == (NAMES, [[1.0, 2.0]])


@given(
    arrays_of.arrays(
        st.sampled_from(["<f8", ">f8", "<f4", "<i4", ">i2", "<u8"]),
        arrays_of.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_any_array_keeps_its_numbers(numbers: Any) -> None:
    """Of any kind and byte order; parts and other orders of columns are views of the same numbers."""
    rows = read(numbers)
    exact = numbers.astype(np.float64)
    assert rows.nested() == exact.tolist()
    assert rows.part(len(exact) - 1, len(exact) + 1).nested() == exact[-1:].tolist()
    assert rows.flat.tobytes() == exact.astype("<f8").tobytes()


def test_columns_are_put_in_order() -> None:
    """By name, whatever their order was."""
    rows = read(pd.DataFrame({"c": [3, 6], "a": [1, 4], "b": [2, 5]}))
    named = [{"name": name} for name in "abcd"]
    assert Inputs(named[:3]).read(rows).nested() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(InvalidRequest, match="has no 'd', but an unknown 'c', 'b'; known: a, d"):
        Inputs([named[0], named[3]]).read(rows)
    with pytest.raises(InvalidRequest, match=r"inputs\[0\]: has 2 values, expected 3"):
        Inputs(named[:3]).read(read(ROWS))


MISSING = "is missing: the model was trained without missing values here"
# Read by a model of two plain numbers, or of as many as there are.
REFUSED: list[tuple[Any, str]] = [
    ([], "at least one row"),
    (np.empty((0, 2)), "at least one row"),
    (pd.DataFrame({"a": []}), "at least one row"),
    ([[]], r"inputs\[0\]: must be"),
    ([1.0, 2.0], "a single row is"),
    (np.zeros(3), r"a single row is array\[None, :\]"),
    (np.zeros((1, 2, 3)), "must have two dimensions"),
    (pd.Series([1.0]), "must have two dimensions"),
    (np.array([["1", "2"]]), r"inputs\[0\]\.a: must be a number; inputs\[0\]\.b: must be a number"),
    (np.array([[1j, 2j]]), "must be numbers, texts or truth values, not complex128"),
    (np.array([[True]]), r"inputs\[0\]\.a: must be a number"),
    ([[1.0, 2.0], [3.0]], r"inputs\[1\]: has 1 value, expected 2"),
    ([[1.0, "2"]], r"inputs\[0\]\.b: must be a number"),
    ([[1.0, True]], r"inputs\[0\]\.b: must be a number"),
    ([[1.0, None]], rf"inputs\[0\]\.b: {MISSING}"),
    ([[1.0, float("nan")]], rf"inputs\[0\]\.b: {MISSING}"),
    ([[1.0, 10**400]], r"inputs\[0\]\.b: must be a finite number"),
    ([[1.0], ["x"]], r"inputs\[1\]\.a: must be a number"),
    (["ab"], r"inputs\[0\]"),
    ([{"a": 1.0}, {"b": 1.0}], r"inputs\[1\]\.a: is missing; inputs\[1\]\.b: is not in the first row"),
    ([{"a": 1.0}, [1.0]], r"inputs\[1\]: is not of the same form"),
    ([[1.0], {"a": 1.0}], r"inputs\[1\]: is not of the same form"),
    ([{"a": None}], rf"inputs\[0\]\.a: {MISSING}"),
    ({"a": 1.0, "b": "x"}, r"inputs\[0\]\.b: must be a number"),
    ({"a": 1.0, "b": [1.0]}, r"inputs\.a: is a single value where others are columns"),
    ({"a": [1.0], "b": [1.0, 2.0]}, "columns of different lengths"),
    ({"a": ["x"]}, r"inputs\[0\]\.a: must be a number"),
    ({}, "must be a list of values"),
    (pd.DataFrame({"a": [1.0, None]}), rf"inputs\[1\]\.a: {MISSING}"),
    (pd.DataFrame({"a": pd.array([1, None], "Int64")}), rf"inputs\[1\]\.a: {MISSING}"),
    (pd.DataFrame({"a": ["x"]}), r"inputs\[0\]\.a: must be a number"),
    (pd.DataFrame({"a": [True]}), r"inputs\[0\]\.a: must be a number"),
    (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), r"inputs\.a: must be numbers, .*not datetime64"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of the same name"),
    (pl.DataFrame({"a": [1, None]}), rf"inputs\[1\]\.a: {MISSING}"),
    (pl.DataFrame({"a": ["x"]}), r"inputs\[0\]\.a: must be a number"),
]


def understood(data: Any) -> Rows:
    """The rows of a model of so many plain numbers."""
    found = read(data)
    return Inputs([{"name": name} for name in NAMES[: found.width]]).read(found)


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_no_table_of_numbers_is_refused(data: Any, message: str) -> None:
    """By row and column, and never with a value in the message."""
    with pytest.raises(InvalidRequest, match=message) as caught:
        understood(data)
    assert caught.value.complaints
    assert len(caught.value.complaints) <= 10


@pytest.mark.parametrize("data", [None, 7, "text", b"bytes"])
def test_what_is_nothing_like_a_table(data: Any) -> None:
    """A mistake of the program, not of its data."""
    with pytest.raises(TypeError, match="rows must be"):
        read(data)


def test_frames_go_in_by_name(server: Any, face: Any) -> None:
    """A frame with the model's columns in any order is its rows; one with others is told which."""
    names = [feature["name"] for feature in server.client.get("/v1/models/diabetes").json()["inputs"]]
    table = np.random.default_rng(0).normal(0, 0.05, (300, 10))
    frame = pd.DataFrame(table, columns=names)[names[::-1]]
    with face(server.url) as client:
        expected = client.predict("diabetes", table).to_json()
        assert client.predict("diabetes", frame).to_json() == expected
        assert client.predict("diabetes", pl.DataFrame(dict(frame))).to_json() == expected
        assert client.predict("diabetes", frame[:3]).mean.shape == (3, 1)
        for rows in (frame[:2], frame):
            with pytest.raises(InvalidRequest):
                client.predict("diabetes", rows.assign(id=1))


def test_answers_become_frames(server: Any, face: Any) -> None:
    """One value for each row under each name, with the names of outputs and classes where they are given."""
    with face(server.url) as client:
        row = [[0.0] * 10] * 2
        answer = client.sample("diabetes", row, seed=1, quantiles=[0.05, 0.5])
        frame = pd.DataFrame(answer.columns())
        assert list(frame) == [
            "mean",
            "std",
            "epistemic_std",
            "aleatoric_std",
            "stderr",
            "lower",
            "upper",
            "q0.05",
            "q0.5",
        ]
        assert frame.shape == (2, 9)
        known = client.model("digits")
        digits = client.sample("digits", [[0.0] * 64] * 2, seed=1)
        columns = digits.columns(known.output_names)
        assert columns["votes_7"].tolist() == digits.votes[:, 7].tolist()
        assert columns["label"] == digits.labels
        with pytest.raises(ValueError, match="1 names for 10 outputs"):
            digits.columns(["one"])
