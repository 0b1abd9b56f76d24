"""Tables made to be too much: what is read at once is bounded, and what is damaged is a TableError."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penumbra.inputs import Inputs
from penumbra.scoring.tables import TableError, TooLarge, opened

INPUTS = Inputs([{"name": "a"}])

ROWS = 1000


def read(path: Path, *keep: str) -> list[int]:
    """How many rows there are in each batch of a table with a column a."""
    return [batch.rows.count for batch in opened(path).batches(300, INPUTS, list(keep))]


@pytest.mark.parametrize(
    ("head", "body"),
    {
        "one line": ("", "," * 32_000_000),
        "one row": ("a\n", "," * 32_000_000),
        "a row of many lines": ("a\n", '",\n"' * 8_000_000),
        "nothing": ("a\n", "\n" * 8_000_000),
        "a short line of too many": ("", "," * 20_000),
        "rows of another width": ("a\n", ("," * 10_000 + "\n") * 3000),
    }.values(),
)
def test_a_row_of_text_is_bounded(head: str, body: str, tmp_path: Path) -> None:
    """Whatever its length, no more of it is read than a row may have."""
    (path := tmp_path / "table.csv").write_text(head + body)
    tracemalloc.start()
    try:
        with pytest.raises(TableError, match=r"a row must have|expected 1"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_what_is_within_the_bounds_is_read(tmp_path: Path) -> None:
    """Empty lines, lines within a value, and all ends of lines."""
    (path := tmp_path / "table.csv").write_bytes(b'a,b\n\n1,"x\n\n\ny"\r\n\r\n\r2,z\r' + b"\n" * 3000 + b"3,\n")
    [batch] = opened(path).batches(300, INPUTS, ["b"])
    assert (list(batch.rows.flat), batch.kept) == ([1, 2, 3], {"b": ["x\n\n\ny", "z", ""]})
    (path := tmp_path / "old.csv").write_bytes(b"a\r" + b"1\r" * 9)
    assert (read(path), opened(path).count()) == ([9], 9)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """Columns of Parquet that nobody needs may be as broken as they like."""
    path = written(tmp_path, a=[1.0] * ROWS, b=[2.0] * ROWS)
    damage(path, pq.read_metadata(path).row_group(0).column(1).dictionary_page_offset)
    assert read(path) == [300, 300, 300, 100]
    with pytest.raises(TableError, match="can't be read as Parquet"):
        read(path, "b")


def test_a_value_is_bounded(tmp_path: Path) -> None:
    """One that takes nearly nothing in its file."""
    path = written(tmp_path, a=[1.0] * ROWS, bomb=[bytes(2**26), *[b""] * (ROWS - 1)])
    assert path.stat().st_size < 100_000
    with pytest.raises(TooLarge, match=r"256 rows take .* bytes, at most 33554432 may be"):
        read(path, "bomb")


def test_a_word_that_is_repeated_is_bounded(tmp_path: Path) -> None:
    """It is in the file once, and in each row when it is decoded."""
    path = written(tmp_path, a=[1.0] * ROWS, word=["x" * 200_000] * ROWS)
    assert path.stat().st_size < 100_000
    with pytest.raises(TooLarge, match=r"256 rows take .* bytes, at most 33554432 may be"):
        read(path, "word")


@pytest.mark.parametrize("offset", [4, 8, 20])
def test_damage_is_told(offset: int, tmp_path: Path) -> None:
    """A page that can't be read is what is wrong with the table, also where rows are read by themselves."""
    path = written(tmp_path, a=[float(number) for number in range(ROWS)])
    damage(path, offset)
    with pytest.raises(TableError, match="can't be read as Parquet"):
        read(path)
    with pytest.raises(TableError, match="can't be read as Parquet"):
        opened(path).batch(0, 10, INPUTS, [])


def test_batches_do_not_depend_on_how_rows_are_grouped(tmp_path: Path) -> None:
    """In pieces that are smaller or larger than a batch."""
    for group in (7, 300, 1000):
        path = written(tmp_path, row_group_size=group, a=[float(number) for number in range(ROWS)])
        for size in (1, 64, 300, 1000):
            batches = list(opened(path).batches(size, INPUTS, [], skip=size))
            assert [number for batch in batches for number in batch.rows.flat] == list(range(size, ROWS))
            assert [batch.first for batch in batches] == list(range(size, ROWS, size))


def written(folder: Path, row_group_size: int = ROWS, **columns: Any) -> Path:
    """A file of Parquet."""
    pq.write_table(pa.table(columns), folder / "table.parquet", row_group_size=row_group_size, compression="zstd")
    return folder / "table.parquet"


def damage(path: Path, offset: int) -> None:
    """Makes some bytes of a file others."""
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(content)
