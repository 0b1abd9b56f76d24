"""Rows to calibrate with, from a file: what is read, and what is refused in which words."""

from __future__ import annotations

import numpy as np
import pytest

from models.architecture import ClassificationHead, Mlp
from models.held_out import Unusable, of_file
from tests.models.examples import SMALL, sealed

REGRESSION = sealed(SMALL)
CLASSES = sealed(Mlp(inputs=2, hidden=(3,), head=ClassificationHead(classes=3)))
TEN = [f"{i},{i / 10},{-i}" for i in range(10)]


def file(tmp_path, *lines):
    """A file of these lines."""
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    return path


def test_columns_go_by_their_names(tmp_path):
    """Columns may stand in any order, and others are left alone; a byte order mark and empty lines do no harm."""
    path = file(tmp_path, "\ufeffy0,x1,note,x0", "", *(f"{i},{i + 0.5},hello,{-i}" for i in range(10)))
    held = of_file(path, REGRESSION)
    np.testing.assert_array_equal(held.inputs, [[-i, i + 0.5] for i in range(10)])
    np.testing.assert_array_equal(held.targets, [[i] for i in range(10)])
    assert held.source == "rows.csv"


def test_classes_go_by_their_names(tmp_path):
    """The one column that is no input names the classes, whatever it is called."""
    path = file(tmp_path, "x0,kind,x1", *(f"{i},class {i % 3},0" for i in range(10)))
    np.testing.assert_array_equal(of_file(path, CLASSES).targets, [i % 3 for i in range(10)])


@pytest.mark.parametrize(
    ("manifest", "lines", "message"),
    [
        (REGRESSION, [], "is empty"),
        (REGRESSION, ["x0,x1", *TEN], "has no column 'y0'"),
        (REGRESSION, ["x0,y0", *TEN], "has no column 'x1'"),
        (REGRESSION, ["x0,x1,x0,y0", *TEN], "two columns have the same name"),
        (REGRESSION, ["x0,x1,y0", *TEN[:9]], "has 9 rows; 10 or more are needed"),
        (REGRESSION, ["x0,x1,y0", *TEN, "1,2"], "row 12 has 2 values, and the header 3"),
        (REGRESSION, ["x0,x1,y0", *TEN, "1,nan,3"], r"\[10\].x1 must be a finite number"),
        (REGRESSION, ["x0,x1,y0", *TEN, "1,two,3"], "could not convert string to float: 'two'"),
        (CLASSES, ["x0,x1", *TEN], "must have one column besides the inputs, for the classes; it has 0"),
        (CLASSES, ["x0,x1,a,b", *TEN], "must have one column besides the inputs, for the classes; it has 2"),
        (CLASSES, ["x0,x1,a", *(["1,2,class 0"] * 10), "1,2,class 9"], "row 12 has a class that the model does not"),
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
