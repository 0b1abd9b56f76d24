"""Rows: which are read, how they are standardised, and what is said about those that can't be."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.features import (
    MAX_COMPLAINTS,
    ClassLabel,
    Feature,
    InvalidRows,
    Standard,
    Target,
    column_statistics,
    read_array,
    read_flat,
    read_rows,
)
from models.mixed import standardise

FEATURES = tuple(Feature(name=name, range=(0.0, 1.0)) for name in ("a", "b", "c"))
NAMES = ("a", "b", "c")
WIDE = tuple(f"x{i}" for i in range(30))

numbers = st.floats(allow_nan=False, allow_infinity=False)
rows_of_three = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=9)
moderate = st.floats(-1e6, 1e6)


def complaints(inputs, names=NAMES):
    """What is said about rows that are refused."""
    with pytest.raises(InvalidRows) as caught:
        read_rows(inputs, names)
    return caught.value.complaints


@given(rows_of_three)
def test_lists(rows):
    """Lists of numbers are read as they are, in order, to the last bit."""
    found = read_rows([list(row) for row in rows], NAMES)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.array(rows))


@given(rows_of_three, st.permutations(range(3)))
def test_objects(rows, order):
    """Objects give the same rows as lists, whatever the order of their names."""
    objects = [{FEATURES[i].name: row[i] for i in order} for row in rows]
    np.testing.assert_array_equal(read_rows(objects, NAMES), np.array(rows))


@given(rows_of_three)
def test_flat_lists(rows):
    """Numbers row after row are the same rows as in lists of their own."""
    np.testing.assert_array_equal(read_flat([value for row in rows for value in row], NAMES), np.array(rows))


@pytest.mark.parametrize(("place", "value"), [(4, "canary"), (700, None), (1000, True), (1499, float("nan"))])
def test_what_is_wrong_in_a_flat_list_is_told_by_its_row(place, value):
    """Also beyond the block that is read at once."""
    values = [0.5] * 1500
    values[place] = value
    with pytest.raises(InvalidRows) as caught:
        read_flat(values, NAMES)
    ((field, _),) = caught.value.complaints
    assert field == f"inputs[{place // 3}].{NAMES[place % 3]}"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8"])
def test_arrays_are_read_exactly(dtype):
    """Every kind of number becomes the float64 that equals it."""
    array = np.array([[0, 1, 100], [7, 3, 127]], dtype)
    found = read_array(array, NAMES)
    assert found.dtype == np.float64
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("array", "field", "message"),
    [
        (np.array([[1, np.nan, 2]], np.float32), "inputs[0].b", "must be a finite number"),
        (np.array([[1, 2, 3], [-np.inf, 2, 3]]), "inputs[1].a", "must be a finite number"),
        (np.array([[0, 0, 2**53 + 1]], np.int64), "inputs[0].c", "is an integer that float64 can't hold exactly"),
        (np.array([[-(2**63) + 1, 0, 0]], np.int64), "inputs[0].a", "is an integer that float64 can't hold exactly"),
        (np.array([[0, 2**64 - 1, 0]], np.uint64), "inputs[0].b", "is an integer that float64 can't hold exactly"),
    ],
)
def test_arrays_that_float64_can_not_hold(array, field, message):
    """What is not finite, or has too many digits, is told by its place."""
    with pytest.raises(InvalidRows) as caught:
        read_array(array, NAMES)
    assert caught.value.complaints == ((field, message),)


def test_large_integers_that_float64_holds():
    """Powers of two, and what has few digits before its zeros, are exact however large they are."""
    array = np.array([[-(2**63), 2**62 + 2**20, (2**53 - 1) * 2**9]], np.int64)
    assert read_array(array, NAMES).tolist() == array.tolist()
    assert read_array(np.array([[2**63, 2**64 - 2**11, 0]], np.uint64), NAMES)[0, 0] == 2.0**63


def test_many_wrong_numbers_are_told_ten_times():
    """The list of complaints is short, however large the array."""
    with pytest.raises(InvalidRows) as caught:
        read_array(np.full((1000, 3), np.nan), NAMES)
    assert len(caught.value.complaints) == MAX_COMPLAINTS


def test_whole_numbers():
    """Whole numbers are numbers, also where they stand beside fractions."""
    assert read_rows(json.loads("[[1, 2.5, -3]]"), NAMES).tolist() == [[1.0, 2.5, -3.0]]


def test_largest_number():
    """The largest double is read; it is for the standardisation to refuse it."""
    assert read_rows([[sys.float_info.max, int(sys.float_info.max), 0]], NAMES)[0, 1] == sys.float_info.max


@pytest.mark.parametrize("inputs", [None, "rows", 5, {"a": 1, "b": 2, "c": 3}, (1, 2, 3)])
def test_no_list(inputs):
    """What is no list is no list of rows."""
    assert complaints(inputs) == (("inputs", "must be a list of rows"),)


def test_no_rows():
    """No rows are too few."""
    assert complaints([]) == (("inputs", "must have at least one row"),)


@pytest.mark.parametrize("row", [None, "1,2,3", True])
def test_no_row(row):
    """A row is a list or an object, and nothing else."""
    assert complaints([row]) == (("inputs[0]", "must be a list of numbers or an object of named numbers"),)


@pytest.mark.parametrize("flat", [[1], [1.0, 2.0, 3.0], [0.5, None, "x", True], list(range(1000))])
def test_flat_row(flat):
    """A single row that is not in a list is told so once, not value by value."""
    assert complaints(flat) == (("inputs", "must be a list of rows: a single row is [[…]], not […]"),)


@pytest.mark.parametrize(
    ("rows", "wrong"), [([1, [1.0, 2.0, 3.0]], [0]), ([1, {}], [0, 1]), ([[1.0, 2.0, 3.0], 1, 2], [1, 2])]
)
def test_numbers_among_rows(rows, wrong):
    """Where there are rows beside them, numbers are rows that are wrong."""
    assert [field for field, _ in complaints(rows)] == [f"inputs[{number}]" for number in wrong]


def test_the_quick_way_says_what_the_careful_one_says():
    """A single row, which has a way of its own, is read and refused as it is among others."""
    large = sys.float_info.max
    for row in ([1.0, 2, -0.0], [large, large, -1.0], [int(large), int(large), int(large)], [1e308, -1e308, 5e-324]):
        (only,), (among, _) = read_rows([row], NAMES), read_rows([row, [0.0, 0.0, 0.0]], NAMES)
        assert only.tobytes() == among.tobytes() == np.array(row, np.float64).tobytes()
    for row in ([1.0, float("nan"), 2.0], [10**400, 1, 1], [1.0, True, "x"], [float("inf"), -float("inf"), 0.0], [1.0]):
        assert complaints([row]) == complaints([row, [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("row", [[], [1.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
def test_wrong_length(row):
    """A row of another length is named by its number, with its length and the length expected."""
    assert complaints([[1.0, 2.0, 3.0], row]) == (("inputs[1]", f"has {len(row)} values, expected 3"),)


def test_lengths_that_add_up():
    """Two wrong lengths do not make up for each other, though the values are as many as expected."""
    assert len(complaints([[1.0, 2.0], [3.0, 4.0, 5.0, 6.0]])) == 2


def test_mixed_forms():
    """The first row decides between lists and objects, and the rows of the other form are named."""
    listed, named = [1.0, 2.0, 3.0], {"a": 1.0, "b": 2.0, "c": 3.0}
    assert complaints([listed, named]) == (("inputs[1]", "is an object, but the first row is a list: use one form"),)
    assert complaints([named, listed]) == (("inputs[1]", "is not an object, but the first row is one: use one form"),)


@pytest.mark.parametrize("value", [True, False, None, "1.5", "", [1.0], [], {}, {"a": 1}])
@pytest.mark.parametrize("named", [False, True])
def test_no_number(value, named):
    """A value that is no number is named by row and feature, whichever form the row has; true is no number."""
    row = {"a": 1.0, "b": value, "c": 3.0} if named else [1.0, value, 3.0]
    good = {"a": 1, "b": 2, "c": 3} if named else [1, 2, 3]
    assert complaints([good, row]) == (("inputs[1].b", "must be a number"),)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), 10**5000], ids=lambda _: ""
)
def test_no_finite_number(value):
    """NaN, infinity and whole numbers beyond the doubles are named by row and feature."""
    assert complaints([[1.0, 2.0, value]]) == (("inputs[0].c", "must be a finite number"),)


@pytest.mark.parametrize("named", [False, True])
def test_many_rows(named):
    """A thousand rows are read in order, none twice and none left out."""
    rows = np.arange(3000.0).reshape(1000, 3)
    sent = [dict(zip("cab", (c, a, b), strict=True)) for a, b, c in rows.tolist()] if named else rows.tolist()
    np.testing.assert_array_equal(read_rows(sent, NAMES), rows)


@pytest.mark.parametrize("number", [0, 1, 255, 256, 257, 511, 512, 999])
def test_one_wrong_row_of_many(number):
    """A wrong row is named by its own number wherever it stands, and whatever is wrong with it."""
    listed, named = [[1.0, 2.0, 3.0]] * 1000, [{"a": 1.0, "b": 2.0, "c": 3.0}] * 1000

    def said(rows, wrong):
        return complaints([*rows[:number], wrong, *rows[number + 1 :]])

    assert said(listed, [1.0, None, 3.0]) == ((f"inputs[{number}].b", "must be a number"),)
    assert said(listed, [1.0, 2.0, 10**400]) == ((f"inputs[{number}].c", "must be a finite number"),)
    assert said(listed, [1.0, 2.0]) == ((f"inputs[{number}]", "has 2 values, expected 3"),)
    assert said(named, {"a": 1.0, "b": 2.0, "c": "x"}) == ((f"inputs[{number}].c", "must be a number"),)
    assert said(named, {"a": 1.0, "c": 3.0}) == ((f"inputs[{number}].b", "is missing"),)


def test_only_the_wrong_values_are_named():
    """Every wrong value gets its own complaint, and no right one does."""
    assert complaints([[1, "x", 3], [float("nan"), 10**400, 3.0]]) == (
        ("inputs[0].b", "must be a number"),
        ("inputs[1].a", "must be a finite number"),
        ("inputs[1].b", "must be a finite number"),
    )


def test_missing_names():
    """A name that an object lacks is said to be missing."""
    assert complaints([{"a": 1.0, "c": 3.0}]) == (("inputs[0].b", "is missing"),)


@pytest.mark.parametrize(("extra", "said"), [(1, "1 unknown name;"), (3, "3 unknown names;")])
def test_unknown_names(extra, said):
    """Unknown names are counted and the known ones listed."""
    row = {"a": 1.0, "b": 2.0, "c": 3.0} | {f"canary{i}": 0.0 for i in range(extra)}
    ((field, message),) = complaints([row])
    assert field == "inputs[0]"
    assert said in message
    assert message.endswith("known are a, b, c")


def test_many_known_names_are_cut():
    """Of many known names the first twelve are listed, and that there are more."""
    message = complaints([dict.fromkeys(WIDE, 1.0) | {"y": 1.0}], WIDE)[0][1]
    assert message.endswith("known are " + ", ".join(f"x{i}" for i in range(12)) + ", …")


canaries = st.text(min_size=4).filter(lambda text: "canary" not in text).map(lambda text: f"canary{text}")


@given(canaries)
def test_nothing_is_quoted(canary):
    """What the caller sent is not in the answer: no value and no name of their own."""
    for inputs in (canary, [canary], [[1, 2, canary]], [{"a": 1, "b": canary, canary: 3}], [[1, 2, 3], {canary: 1}]):
        with pytest.raises(InvalidRows) as caught:
            read_rows(inputs, NAMES)
        assert "canary" not in str(caught.value)
        assert "canary" not in str(caught.value.complaints)


@pytest.mark.parametrize(
    "inputs",
    [
        [["x"] * 30] * 50,
        [[float("nan")] * 30] * 50,
        [[1.0]] * 50,
        ["x"] * 50,
        [{}] * 50,
        [{"x0": 1.0}] * 50,
        [[1.0] * 30, *[{}] * 50],
        [dict.fromkeys(WIDE, "x")] * 50,
    ],
)
def test_at_most_ten_complaints(inputs):
    """However much is wrong, there are ten complaints, in the error's text too."""
    with pytest.raises(InvalidRows) as caught:
        read_rows(inputs, WIDE)
    assert len(caught.value.complaints) == MAX_COMPLAINTS == 10
    assert str(caught.value) == "; ".join(f"{field}: {message}" for field, message in caught.value.complaints)


@given(rows_of_three)
def test_standardise_needs_no_scale(rows):
    """With mean 0 and scale 1 standardising is rounding to float32, unless float32 has no such number."""
    rows = np.clip(np.array(rows), -3e38, 3e38)
    np.testing.assert_array_equal(standardise(rows, FEATURES), rows.astype(np.float32))


@given(st.lists(st.tuples(moderate, moderate), min_size=2, max_size=30))
def test_standardised_columns(rows):
    """Rows standardised by their own statistics have mean 0 and deviation 1, or are 0 where they do not vary."""
    # Whole numbers, so that a deviation is nothing or far above the rounding of the mean.
    table = np.round(np.array(rows))
    mean, scale = column_statistics(table)
    features = [Feature(name=str(i), range=(0, 1), mean=mean[i], scale=scale[i]) for i in range(2)]
    standard = standardise(table, features)
    assert standard.dtype == np.float32
    np.testing.assert_allclose(standard.mean(axis=0, dtype=np.float64), 0.0, atol=1e-4)
    np.testing.assert_allclose(standard.std(axis=0, dtype=np.float64), np.ptp(table, axis=0) > 0, atol=1e-4)


def test_standardise_in_float64():
    """A small difference from a large mean survives: it is taken before float32 rounds it away."""
    feature = Feature(name="year", range=(0, 1), mean=1e9, scale=1e-3)
    assert standardise(np.array([[1e9 + 0.001]]), [feature])[0, 0] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("rows", [1, 40, 50, 1000])
def test_standard_rows_do_not_depend_on_their_number(rows):
    """However many rows are standardised together, each gets what it gets alone, and none is refused for the others."""
    features = [Feature(name=str(i), range=(0, 1), mean=0.1 * i, scale=1 + i) for i in range(3)]
    standard, raw = Standard(features), np.full((rows, 3), 3e38)
    assert standard.names == ("0", "1", "2")
    np.testing.assert_array_equal(standard(raw), np.repeat(standard(raw[:1]), rows, axis=0))


@given(moderate, st.integers(1, 40))
def test_constant_column(value, rows):
    """A constant column has scale 1, also where its mean is rounded, so that another value is not thrown far out."""
    mean, scale = column_statistics(np.full((rows, 1), value))
    assert scale.tolist() == [1.0]
    assert mean[0] == pytest.approx(value, rel=1e-12)


def test_column_that_varies_too_little():
    """A column whose deviation is lost to underflow has scale 1, not 0."""
    assert column_statistics(np.array([[1e-200], [2e-200]]))[1].tolist() == [1.0]


@pytest.mark.parametrize("value", [3.5e38, -3.5e38, 1e300, sys.float_info.max, -sys.float_info.max])
def test_float32_overflow(value):
    """A value that float32 can't hold once it is standardised is refused by row and feature."""
    with pytest.raises(InvalidRows) as caught:
        standardise(np.array([[0.0, 0.0, 0.0], [0.0, value, 0.0]]), FEATURES)
    assert caught.value.complaints == (("inputs[1].b", "too far outside the model's range"),)


def test_overflow_by_scale():
    """A small scale makes a moderate value too large, even for float64."""
    feature = Feature(name="a", range=(0, 1), scale=1e-300)
    with pytest.raises(InvalidRows, match="too far outside the model's range"):
        standardise(np.array([[1e100]]), [feature])


def test_at_most_ten_overflows():
    """Of many values too far out ten are named."""
    with pytest.raises(InvalidRows) as caught:
        standardise(np.full((50, 3), 1e39), FEATURES)
    assert len(caught.value.complaints) == MAX_COMPLAINTS


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Feature, {"name": "", "range": (0, 1)}),
        (Feature, {"name": "x" * 201, "range": (0, 1)}),
        (Feature, {"name": "x"}),
        (Feature, {"name": "x", "range": (0, float("inf"))}),
        (Feature, {"name": "x", "range": (0, 1), "mean": float("nan")}),
        (Feature, {"name": "x", "range": (0, 1), "scale": 0}),
        (Feature, {"name": "x", "range": (0, 1), "scale": -1}),
        (Feature, {"name": "x", "range": (0, 1), "kind": "category"}),
        (Feature, {"name": "x", "range": (0, 1), "colour": "red"}),
        (Target, {"name": "y", "mean": 0}),
        (Target, {"name": "y", "mean": 0, "scale": 0}),
        (Target, {"name": "y", "mean": float("inf"), "scale": 1}),
        (ClassLabel, {"name": ""}),
        (ClassLabel, {"name": "z", "mean": 0}),
    ],
)
def test_refused_columns(kind, values):
    """A column without a name, with numbers that can't be divided by, or with unknown fields is refused."""
    with pytest.raises(ValidationError):
        kind(**values)


@pytest.mark.parametrize(
    "column", [FEATURES[0], Target(name="y", mean=0.0, scale=1.0), ClassLabel(name="z")], ids=lambda c: c.name
)
def test_frozen_columns(column):
    """A column can't be renamed."""
    with pytest.raises(ValidationError, match="frozen"):
        column.name = "other"
