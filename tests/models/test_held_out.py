"""Rows to calibrate with, from a file: what is read, and what is refused in which words."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.features import UNKNOWN, Boolean, Category, Feature
from models.held_out import Unusable, of_file
from tests.models.examples import SMALL, sealed

REGRESSION = sealed(SMALL)
CLASSES = sealed(Mlp(inputs=2, hidden=(3,), head=ClassificationHead(classes=3)))
MIXED = sealed(
    Mlp(inputs=6, hidden=(3,), head=RegressionHead()),
    inputs=(
        Feature(name="age", range=(0.0, 90.0), missing=True),
        Boolean(name="garden", kind="boolean"),
        Category(name="heating", kind="category", categories=("gas", "oil")),
    ),
)
TEN = [f"{i},{i / 10},{-i}" for i in range(10)]
PAIRS = [f"{i},{i / 10}" for i in range(10)]


def file(tmp_path, *lines):
    """A file of these lines."""
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    return path


def test_columns_go_by_their_names(tmp_path):
    """Columns may stand in any order, others are left alone; a byte order mark and empty lines do no harm."""
    path = file(tmp_path, "\ufeffy0,x1,note,x0", *(f"{i},{i + 0.5},hello,{-i}" for i in range(10)), "", "")
    held = of_file(path, REGRESSION)
    np.testing.assert_array_equal(held.inputs, [[-i, i + 0.5] for i in range(10)])
    np.testing.assert_array_equal(held.targets, [[i] for i in range(10)])
    assert held.source == "rows.csv"


def test_classes_go_by_their_names(tmp_path):
    """The one column that is no input names the classes, whatever it is called."""
    path = file(tmp_path, "x0,kind,x1", *(f"{i},class {i % 3},0" for i in range(10)))
    np.testing.assert_array_equal(of_file(path, CLASSES).targets, [i % 3 for i in range(10)])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_of_every_kind_are_read_as_in_training(tmp_path, suffix):
    """Texts, truth values and gaps become what the service makes of them; Parquet files are read too."""
    path = tmp_path / f"rows.{suffix}"
    columns = {
        "heating": ["gas", "oil", "coal", None, *["gas"] * 6],
        "garden": [True, False] * 5,
        "age": [None, 12.5, *range(8)],
        "y0": list(range(10)),
    }
    frame = pl.DataFrame(columns, strict=False)
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    held = of_file(path, MIXED)
    np.testing.assert_array_equal(held.inputs[:4, 0], [np.nan, 12.5, 0, 1])
    np.testing.assert_array_equal(held.inputs[:4, 1], [1, 0, 1, 0])
    np.testing.assert_array_equal(held.inputs[:4, 2], [0, 1, UNKNOWN, UNKNOWN])


@pytest.mark.parametrize(
    ("manifest", "lines", "message"),
    [
        (REGRESSION, [], "is empty"),
        (REGRESSION, ["x0,x1", *PAIRS], "has no column 'y0'"),
        (REGRESSION, ["x0,y0", *PAIRS], "has no column 'x1'"),
        (REGRESSION, ["x0,x1,x0,y0", *TEN], "has two columns called 'x0'"),
        (REGRESSION, ["x0,x1,y0", *TEN[:9]], "has 9 rows with a target; 10 or more are needed"),
        (REGRESSION, ["x0,x1,y0", *TEN, "1,2"], "row 11 has 2 values, for 3 columns"),
        (REGRESSION, ["x0,x1,y0", *TEN, "1,2,3,4"], "row 11 has 4 values, for 3 columns"),
        (REGRESSION, ["x0,x1,y0", *TEN, "1,nan,3"], "column 'x1', row 11 must be a number"),
        (REGRESSION, ["x0,x1,y0", *TEN, "1,two,3"], "column 'x1', row 11: 'two' is not a number"),
        (CLASSES, ["x0,x1", *PAIRS], "must have one column besides the inputs, for the classes; it has 0"),
        (
            CLASSES,
            ["x0,x1,a,b", *(f"{line},4" for line in TEN)],
            "must have one column besides the inputs, for the classes; it has 2",
        ),
        (CLASSES, ["x0,x1,a", *(["1,2,class 0"] * 10), "1,2,class 9"], "row 11 has a class that the model does not"),
        (REGRESSION, ["x0,x1,y0", *TEN[:9], "1,2,NA"], "has 9 rows with a target; 10 or more are needed"),
        (REGRESSION, ["x0,x1,y0", "1,2,NA", *TEN, "1,NA,2"], "column 'x1', row 12 must be a number"),
        (REGRESSION, ["x0,x1,y0", *(["1,2,much"] * 10)], "column 'y0' has values that are no numbers"),
        (MIXED, ["age,garden,heating,y0", *(["1,true,gas,2"] * 10), "1,,gas,2"], "column 'garden', row 11 must not be"),
        (MIXED, ["age,garden,heating,y0", *(["old,true,gas,2"] * 10)], "column 'age', row 1 must be a number"),
    ],
)
def test_refused(tmp_path, manifest, lines, message):
    """Each mistake is told in a line."""
    with pytest.raises(Unusable, match=message) as told:
        of_file(file(tmp_path, *lines), manifest)
    assert "\n" not in str(told.value)


def test_files_that_can_not_be_read(tmp_path):
    """A missing file, a folder, and bytes that are no text are told."""
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00x")
    for name in ("none.csv", "", "bytes.csv"):
        with pytest.raises(Unusable, match=str(tmp_path)):
            of_file(tmp_path / name, REGRESSION)
