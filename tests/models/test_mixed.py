"""Rows of mixed kinds and images: what is read of them, what the network sees, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from models.features import UNKNOWN, Boolean, Category, Feature, Input, InvalidRows, Standard
from models.mixed import Images, Mixed, standard_of, standardise

INPUTS = (
    Feature(name="rooms", range=(1, 9), mean=4.0, scale=2.0),
    Category(name="heating", kind="category", categories=("gas", "oil")),
    Feature(name="age", range=(0, 90), mean=40.0, scale=10.0, missing=True),
    Boolean(name="garden", kind="boolean", mean=0.25, scale=0.5, missing=True),
)
SEEN = Mixed(INPUTS)

cells = st.tuples(
    st.floats(-1e6, 1e6),
    st.sampled_from(["gas", "oil", "wood", None]),
    st.one_of(st.none(), st.integers(-1000, 1000)),
    st.sampled_from([None, True, False]),
)


def by_hand(rooms, heating, age, garden):
    """What the network sees of a row, spelled out."""
    known = [float(heating == name) for name in ("gas", "oil")]
    return [
        (rooms - 4.0) / 2.0,
        float(heating not in ("gas", "oil")),
        *known,
        *((0.0, 1.0) if age is None else ((age - 40.0) / 10.0, 0.0)),
        *((0.0, 1.0) if garden is None else ((garden - 0.25) / 0.5, 0.0)),
    ]


@given(st.lists(cells, min_size=1, max_size=600))
def test_rows_are_seen_as_the_manifest_says(rows):
    """Numbers are standardised, categories one of several, missing values flagged; lists and objects read alike."""
    names = [each.name for each in INPUTS]
    seen = SEEN(SEEN.read([list(row) for row in rows]))
    np.testing.assert_array_equal(seen, np.array([by_hand(*row) for row in rows], np.float32))
    objects = [dict(reversed(list(zip(names, row, strict=True)))) for row in rows]
    np.testing.assert_array_equal(SEEN(SEEN.read(objects)), seen)
    assert seen.shape[1] == sum(each.width for each in INPUTS)


@given(st.lists(cells, min_size=1, max_size=20))
def test_numbers_stand_for_all_kinds(rows):
    """A row as numbers, with places of categories and NaN for what is missing, is the row that JSON says."""
    read = SEEN.read([list(row) for row in rows])
    np.testing.assert_array_equal(SEEN.read_array(read), read)
    flat = [None if np.isnan(number) else number for number in read.ravel().tolist()]
    np.testing.assert_array_equal(SEEN.read_flat(flat), read)


def test_rows_do_not_depend_on_each_other():
    """A row alone is seen as it is in company."""
    rows = [[3, "gas", None, True], [5, "peat", 7, None]]
    together = SEEN(SEEN.read(rows))
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(SEEN(SEEN.read([row]))[0], together[number])


@pytest.mark.parametrize(
    ("row", "complaints"),
    [
        ([None, "gas", 1, True], [("rooms", "must not be null: no value was missing in training")]),
        (["3", 1.5, "old", 1], [("rooms", "must be a number"), ("heating", "must be a text, or null"),
                                ("age", "must be a number"), ("garden", "must be true or false")]),
        ([1e999, [], {}, "true"], [("rooms", "must be a finite number"), ("heating", "must be a text, or null"),
                                   ("age", "must be a number"), ("garden", "must be true or false")]),
        ([True, "gas", False, True], [("rooms", "must be a number"), ("age", "must be a number")]),
    ],
)  # fmt: skip
def test_values_that_are_refused(row, complaints):
    """Each column that is wrong gets a complaint with the place of its first wrong value."""
    with pytest.raises(InvalidRows) as refused:
        SEEN.read([[3, "gas", 1, True], row])
    assert refused.value.complaints == tuple((f"inputs[1].{name}", message) for name, message in complaints)


def test_a_name_that_is_missing():
    """An object must have every name: what is not known is null."""
    with pytest.raises(InvalidRows) as refused:
        SEEN.read([{"rooms": 3, "heating": "gas", "garden": True}])
    assert refused.value.complaints == (("inputs[0].age", "is missing"),)


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ([3, 2, 1, 0], "heating", "must be the number of a category, 0 to 1, or -1 for any other"),
        ([3, 0.5, 1, 0], "heating", "must be the number of a category, 0 to 1, or -1 for any other"),
        ([np.nan, 0, 1, 0], "rooms", "must be a finite number"),
        ([3, 0, np.inf, 0], "age", "must be a finite number"),
        ([3, 0, 1, 2], "garden", "must be 0 or 1"),
    ],
)
def test_numbers_that_stand_for_nothing(row, field, message):
    """As numbers, too, categories and booleans are only what they can be."""
    with pytest.raises(InvalidRows) as refused:
        SEEN.read_array(np.array([row], np.float64))
    assert refused.value.complaints == ((f"inputs[0].{field}", message),)


def test_values_out_of_reach():
    """A number that float32 can't hold is named, as it is for plain rows."""
    with pytest.raises(InvalidRows, match=r"inputs\[0\].age: too far outside the model's range"):
        SEEN(SEEN.read([[3, "gas", 1e300, True]]))


def test_plain_numbers_are_read_as_ever():
    """Inputs that are numbers, none of them ever missing, need none of this."""
    assert type(standard_of(INPUTS[:1])) is Standard
    assert type(standard_of(INPUTS)) is Mixed
    assert standardise(np.array([[8.0]]), INPUTS[:1]).tolist() == [[2.0]]


def test_manifests_keep_their_json():
    """A number that can't be missing has the JSON that it always had; others come back as they were."""
    inputs = TypeAdapter(tuple[Input, ...])
    assert "missing" not in INPUTS[0].model_dump()
    assert set(INPUTS[0].model_dump()) == {"name", "kind", "units", "range", "mean", "scale"}
    assert inputs.validate_json(inputs.dump_json(INPUTS)) == INPUTS
    assert json.loads(INPUTS[1].model_dump_json())["categories"] == ["gas", "oil"]


PIXELS = [Feature(name=f"p{i}", range=(0, 9)) for i in range(6)]


def test_images_are_flat_or_nested():
    """Height × width, with a single channel spelt out or not, and flat: the same numbers."""
    images = Images(PIXELS, (2, 3))
    expected = [[1, 2, 3, 4, 5, 6]]
    for row in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]], [[[1], [2], [3]], [[4], [5], [6]]]):
        assert images.read([row]).tolist() == expected
    colours = Images(PIXELS, (1, 2, 3))
    assert colours.read([[[[1, 2, 3], [4, 5, 6]]]]).tolist() == expected
    assert images.read([{f"p{i}": i + 1 for i in range(6)}]).tolist() == expected


@pytest.mark.parametrize(
    ("rows", "field", "message"),
    [
        ([[[1, 2], [3, 4], [5, 6]]], "inputs[0]", "must be an image of 2 × 3 numbers, nested or flat"),
        ([[[1, 2, 3], [4, 5]]], "inputs[0]", "must be an image of 2 × 3 numbers, nested or flat"),
        ([[[1, 2, 3], 4]], "inputs[0]", "must be an image of 2 × 3 numbers, nested or flat"),
        ([[[1, 2, 3], [4, 5, 6]], [1, 2, 3, 4, 5, 6]], "inputs[1]", "is flat, but another row is nested: use one form"),
        ([[[1, 2, 3], [4, 5, "6"]]], "inputs[0].p5", "must be a number"),
        ([[[1, 2, 3], [4, 5, [6]]]], "inputs[0].p5", "must be a number"),
        ([[1, 2, 3]], "inputs[0]", "has 3 values, expected 6"),
        ([[[]]], "inputs[0]", "must be an image of 2 × 3 numbers, nested or flat"),
    ],
)
def test_images_that_are_refused(rows, field, message):
    """An image of another shape, of several forms or with something else in it is refused by its place."""
    with pytest.raises(InvalidRows) as refused:
        Images(PIXELS, (2, 3)).read(rows)
    assert refused.value.complaints == ((field, message),)


def test_unknown_is_no_category():
    """The number for what is unknown is none that a category can have."""
    assert UNKNOWN not in range(len(INPUTS[1].categories))
