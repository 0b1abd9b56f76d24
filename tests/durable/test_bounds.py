"""Tables made to be too much, and callers who hand in too many: others notice nothing, and nothing is left of it."""

from __future__ import annotations

import io
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.durable import files
from service.durable.database import Database, url_of
from service.durable.files import Folder
from service.durable.runner import sweep
from tests.api.live import ROOT, Server
from tests.durable.conftest import NAMES
from tests.durable.runners import Runner, ended
from tests.durable.test_jobs import HEAD, ROW, is_problem

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
LINE = b"\n" + b",".join([b"0.1"] * 10)
MOST_BYTES, MOST_ROWS = 40_000_000, 1000
FLAT = 50_000_000


class Desk:
    """A service that takes jobs, and their directory."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server, self.directory = server, directory

    def submit(self, table: Any, kind: str = CSV, **question: str) -> httpx.Response:
        """Hands in a table to be predicted."""
        asked = {"model": "diabetes", "verb": "predict", **question}
        return self.server.client.post("/v1/jobs", params=asked, headers={"Content-Type": kind}, content=table)

    def end(self, job: httpx.Response) -> None:
        """Cancels a job that was accepted."""
        assert self.server.client.post(f"/v1/jobs/{job.json()['id']}/cancel").json()["state"] == "cancelled"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One for all tests of this file."""
    directory = tmp_path_factory.mktemp("jobs")
    server = Server(jobs_dir=directory, max_job_bytes=MOST_BYTES, max_job_rows=MOST_ROWS, receive_seconds=60)
    yield Desk(server, directory)
    server.stop()


def parquet(rows: int = 1, group: int = MOST_ROWS, **more: Any) -> bytes:
    """Rows that a job takes, and more columns, in as few bytes as may be."""
    table = pa.table({name: [0.1] * rows for name in NAMES} | more)
    pq.write_table(table, written := io.BytesIO(), row_group_size=group, compression="zstd")
    return written.getvalue()


TOO_MUCH: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "commas": (CSV, lambda: b"," * 32_000_000, "line 1: a row must have less than 1048576 characters"),
    "a row of commas": (CSV, lambda: HEAD + b"\n" + b"," * 32_000_000, "line 2: a row must have less than"),
    "empty lines": (CSV, lambda: HEAD + b"\n" * 8_000_000 + LINE, "line 4097: a row must have less than"),
    "lines": (CSV, lambda: HEAD + LINE * 1002, "has about 1001 rows; at most 1000 may be: split it"),
    "old lines": (CSV, lambda: (HEAD + LINE * 1002).replace(b"\n", b"\r"), "has about 1001 rows"),
    "rows": (PARQUET, lambda: parquet(4_000_000, 4_000_000), "has about 4000000 rows"),
    "a value": (PARQUET, lambda: parquet(bomb=[bytes(300_000_000)]), "has a row group of 300"),
    "values": (PARQUET, lambda: parquet(5, 1, bomb=[bytes(39_000_000)] * 5), "has 195"),
    "a footer": (PARQUET, lambda: b"PAR1" + bytes(3_000_000) + b"\0\0\x20\0PAR1", "has a footer of 2097152 bytes"),
    "columns": (PARQUET, lambda: parquet(**{f"c{number}": [1] for number in range(9000)}), "has a footer of"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_too_much_is_refused(case: str, desk: Desk) -> None:
    """By what there is to be seen of it at once; memory stays where it was, and so does the disk."""
    kind, made, message = TOO_MUCH[case]
    body = made()
    desk.submit(HEAD, CSV)
    before = desk.server.peak
    answer = desk.submit(body, kind)
    assert is_problem(answer, 422), answer.text
    [told] = answer.json()["errors"]
    assert told["field"] == "table"
    assert told["message"].startswith(message)
    assert desk.server.peak - before < FLAT
    assert not [folder.id for folder in files.folders(desk.directory) if folder.is_coming]


def test_rows_of_json_are_bounded_likewise(desk: Desk) -> None:
    """Though a request may have more of them."""
    answer = desk.server.client.post("/v1/jobs", json={"model": "diabetes", "verb": "predict", "inputs": [ROW] * 1001})
    assert is_problem(answer, 422)
    assert answer.json()["errors"] == [
        {"field": "inputs", "message": "has about 1001 rows; at most 1000 may be: split it"}
    ]


def test_what_can_not_be_done_fails_by_itself(desk: Desk, start_runner: Callable[..., Runner]) -> None:
    """A damaged page, a bomb, and what ended its process each time: jobs that fail, in a sentence; the next is done."""
    page = bytearray(parquet())
    page[4:44] = b"\xff" * 40
    before = desk.server.peak
    damaged, bomb, poison, good = (
        desk.submit(bytes(page), PARQUET),
        desk.submit(parquet(bomb=[bytes(39_000_000)]), PARQUET),
        desk.submit(HEAD + LINE),
        desk.submit(HEAD + LINE * 3),
    )
    assert [each.status_code for each in (damaged, bomb, poison, good)] == [202] * 4
    assert desk.server.peak - before < FLAT
    for _ in range(5):  # as if a worker had begun it, and been ended
        Folder(desk.directory / poison.json()["id"]).tries("chunk 0")
    runner = start_runner(jobs_dir=desk.directory)
    told = [ended(desk.server.client, each.json()["id"]) for each in (damaged, bomb, poison, good)]
    runner.stop()
    assert [each["state"] for each in told] == ["failed", "failed", "failed", "done"]
    assert told[0]["error"].startswith("table.parquet can't be read as Parquet: ")
    assert told[1]["error"].startswith("table.parquet: 1 rows take 39")
    assert told[2]["error"] == "chunk 0 was begun 5 times, and the process ended each time"
    result = f"/v1/jobs/{good.json()['id']}/result"
    for header, status in {"bytes=0-3": 206, "bytes=three": 200, "rows=1-2": 200, "bytes=-": 200}.items():
        assert desk.server.client.get(result, headers={"Range": header}).status_code == status
    beyond = desk.server.client.get(result, headers={"Range": "bytes=1000000-"})
    assert is_problem(beyond, 416)
    assert beyond.headers["content-range"].startswith("bytes */")


def test_nobody_else_may_look(desk: Desk) -> None:
    """Tables, results and the database are their owner's, whatever the umask."""
    folder = desk.directory / desk.submit(HEAD + LINE).json()["id"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((desk.directory / "jobs.sqlite").stat().st_mode) == 0o600


def test_no_more_than_may_be_at_once(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    """However many come at the same time, and to whichever process; and no more in all than are kept."""
    server = start_server(jobs_dir=tmp_path, max_jobs=2, max_kept_jobs=3, workers=2, receive_seconds=60)
    desk = Desk(server, tmp_path)
    begun = threading.Barrier(10)

    def slowly() -> Iterator[bytes]:
        yield HEAD
        begun.wait(60)
        yield LINE

    with ThreadPoolExecutor(10) as pool:
        answers = [each.result() for each in [pool.submit(desk.submit, slowly()) for _ in range(10)]]
    accepted = [each for each in answers if each.status_code == 202]
    assert 1 <= len(accepted) <= 2
    assert all(is_problem(each, 503) for each in answers if each not in accepted)
    assert len(list(files.folders(tmp_path))) == len(accepted)
    for job in accepted:
        desk.end(job)
    for _ in range(3 - len(accepted)):
        desk.end(desk.submit(HEAD + LINE))
    refused = desk.submit(HEAD + LINE)
    assert is_problem(refused, 409)
    assert "forget one first" in refused.json()["detail"]
    assert server.client.delete(f"/v1/jobs/{accepted[0].json()['id']}").status_code == 204
    assert desk.submit(HEAD + LINE).status_code == 202


def test_a_full_disk(small_disk: Path, start_server: Callable[..., Server]) -> None:
    """A table for which there is no room is to be sent later, and leaves nothing; one for which there is, is taken."""
    desk = Desk(start_server(jobs_dir=small_disk), small_disk)
    answer = desk.submit(HEAD + LINE * 200_000)
    assert is_problem(answer, 503)
    assert answer.json()["detail"] == "the table can't be kept: No space left on device"
    assert int(answer.headers["retry-after"]) > 0
    assert not list(files.folders(small_disk))
    assert desk.submit(HEAD + LINE).status_code == 202


def test_what_was_left_is_swept_early(tmp_path: Path) -> None:
    """An hour after something last came of it; jobs stay as long as they are to be kept."""
    database = Database(url_of(tmp_path, ""))
    job, left = files.coming(tmp_path, "a" * 32), files.coming(tmp_path, "b" * 32)
    job = job.accept(files.Asked("", "m", "1", "d", None, "none", "fail", ".csv", 1, 1, time.time()), tmp_path)
    left.table(".csv").touch()
    now = left.changed()
    sweep(tmp_path, database, 100 * 3600, now + 3000)
    assert {folder.id for folder in files.folders(tmp_path)} == {job.id, left.id}
    sweep(tmp_path, database, 100 * 3600, now + 4000)
    assert [folder.id for folder in files.folders(tmp_path)] == [job.id]
    database.close()


def test_any_number_of_jobs_may_be_asked_for(tmp_path: Path) -> None:
    """More than SQLite takes values in one question: sweeping asks for all that are old."""
    database = Database(url_of(tmp_path, ""))
    database.submit("a" * 32, "me")
    names = [f"{number:032x}" for number in range(260_000)]
    assert list(database.standings([*names, "a" * 32])) == ["a" * 32]
    assert list(database.of("me")) == ["a" * 32]
    database.close()


def test_memory_is_bounded() -> None:
    """A process that has set itself a bound is refused more, and goes on."""
    program = """if True:
        from service import memory
        memory.bound(100_000_000)
        try:
            bytearray(200_000_000)
        except MemoryError:
            print(len(bytearray(50_000_000)))
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "50000000\n"


def test_tries_are_counted_in_a_row(tmp_path: Path) -> None:
    """Of the same step; another one begins anew."""
    folder = files.coming(tmp_path, "a" * 32)
    assert [folder.tries(what) for what in ("0", "0", "1", "1", "1", "0")] == [1, 2, 1, 2, 3, 1]
