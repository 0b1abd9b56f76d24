"""Pages: what is counted is seen by all, outlives its worker, and is counted on by the next."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.telemetry import pages
from service.telemetry.pages import Board
from tests.api.live import ROOT

LAYOUT = b"sixteen bytes ok"
KEYS = st.tuples(st.sampled_from(["requests", "rows", "größe"]), st.sampled_from([(), ("a",), ("a", "b"), ('"\n',)]))


def added_up(board: Board) -> dict[object, list[float]]:
    """All pages' numbers by family and labels."""
    found: dict[object, list[float]] = {}
    for each in board.read():
        before = found.get((each.family, each.labels), [0.0] * len(each.values))
        found[each.family, each.labels] = [a + b for a, b in zip(before, each.values, strict=True)]
    return found


@given(st.lists(st.tuples(st.integers(0, 2), KEYS, st.integers(0, 4), st.integers(1, 9))))
def test_every_board_reads_what_all_have_counted(
    counts: list[tuple[int, tuple[str, tuple[str, ...]], int, int]],
) -> None:
    """Whatever three workers count, in whatever order, each of them reads the sums."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        boards = [Board(Path(directory), LAYOUT) for _ in range(3)]
        expected: Counter[tuple[object, int]] = Counter()
        for worker, key, place, count in counts:
            boards[worker].series(*key, 5)[place] += count
            expected[key, place] += count
        for board in boards:
            found = added_up(board)
            assert found.keys() == {key for key, _ in expected}
            for (key, place), count in expected.items():
                assert found[key][place] == count
        for board in boards:
            board.close()


def test_a_series_is_the_same_numbers_when_asked_for_again(tmp_path: Path) -> None:
    """One place for each family and labels."""
    board = Board(tmp_path, LAYOUT)
    board.series("rows", ("a",))[0] += 2.0
    board.series("rows", ("a",))[0] += 3.0
    assert board.series("rows", ("a",))[0] == 5.0
    board.close()


def test_without_a_directory_a_worker_is_alone() -> None:
    """It counts in memory of its own."""
    board, other = Board(None, LAYOUT), Board(None, LAYOUT)
    board.series("rows")[0] += 1.0
    assert added_up(board) == {("rows", ()): [1.0]}
    assert added_up(other) == {}
    board.close()


def test_what_a_worker_counted_outlives_it_and_is_counted_on(tmp_path: Path) -> None:
    """A killed worker's page is read on, as that of a dead one, until another worker takes it over with its number."""
    script = (
        "import os, signal, sys; from pathlib import Path; from service.telemetry.pages import Board;"
        "board = Board(Path(sys.argv[1]), sys.argv[2].encode()); board.series('rows')[0] += 7.0;"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    first = Board(tmp_path, LAYOUT)
    subprocess.run([sys.executable, "-c", script, str(tmp_path), LAYOUT.decode()], cwd=ROOT, check=False, timeout=60)
    (seen,) = first.read()
    assert (seen.values, seen.page, seen.alive) == ([7.0], 1, False)
    second = Board(tmp_path, LAYOUT)
    assert second.number == 1
    second.series("rows")[0] += 1.0
    (seen,) = first.read()
    assert (seen.values, seen.page, seen.alive) == ([8.0], 1, True)
    assert len(list(tmp_path.iterdir())) == 2
    first.close()
    second.close()


def test_a_full_page_is_followed_by_another(tmp_path: Path) -> None:
    """Neither many label sets nor long ones nor many numbers get lost."""
    board = Board(tmp_path, LAYOUT)
    for number in range(3000):
        board.series("rows", (f"{number:060}",), 20)[19] = number
    found = added_up(board)
    assert len(found) == 3000
    assert all(found["rows", (f"{number:060}",)][19] == number for number in range(3000))
    assert len(list(tmp_path.iterdir())) > 1
    with pytest.raises(ValueError, match="more numbers"):
        board.series("rows", ("x",), pages.PAGE_BYTES)
    board.close()


def test_pages_of_another_layout_are_left_alone(tmp_path: Path) -> None:
    """Numbers that mean something else are neither read nor counted on, nor is what is no page at all."""
    old = Board(tmp_path, b"another meaning!")
    old.series("rows")[0] += 1.0
    old.close()
    (tmp_path / "x.page").write_bytes(b"no page")
    board = Board(tmp_path, LAYOUT)
    assert board.number == 1
    assert list(board.read()) == []
    board.close()
    reader = Board(tmp_path, b"another meaning!")
    assert added_up(reader) == {("rows", ()): [1.0]}
    reader.close()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A worker that could not count says so when it starts."""
    with pytest.raises(FileNotFoundError):
        Board(tmp_path / "none", LAYOUT)


def test_reading_takes_nothing_away(tmp_path: Path) -> None:
    """A page stays its worker's while others look at it."""
    board = Board(tmp_path, LAYOUT)
    list(board.read())
    file = os.open(tmp_path / "0.page", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(file)
    board.close()
