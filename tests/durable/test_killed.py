"""Whoever works on a job may be killed at any moment: the result is whole, and no chunk that is done is done again.

KILLS=20 kills more often than twice.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penumbra import Client
from penumbra.scoring import Job, score
from tests.api.live import Server
from tests.durable.postgres import postgres_server
from tests.durable.runners import Runner, ended

QUESTION = {"model": "diabetes", "samples": 20, "seed": 7}
CHUNK_ROWS = 5
CHUNKS = 122
KILLS = int(os.environ.get("KILLS", "2"))


@pytest.fixture(params=["SQLite", "Postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both kinds: what the setting jobs_database says."""
    if request.param == "SQLite":
        yield ""
        return
    with postgres_server() as url:
        yield url


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_killed_job_goes_on(
    database: str,
    table: bytes,
    tmp_path: Path,
    start_server: Callable[..., Server],
    start_runner: Callable[..., Runner],
) -> None:
    """The bytes are those of `penumbra score`, which nobody killed; each chunk was computed once."""
    (directory := tmp_path / "jobs").mkdir()
    settings = {"jobs_dir": directory, "jobs_database": database, "job_chunk_rows": CHUNK_ROWS}
    client = start_server(**settings).client
    sent = client.post("/v1/jobs", params=QUESTION, headers={"Content-Type": "text/csv"}, content=table)
    assert sent.status_code == 202, sent.text
    job = sent.json()["id"]
    moments = random.Random(KILLS)
    computed: list[int] = []
    parts: set[int] = set()
    for _ in range(KILLS):
        runner = start_runner(**settings)
        # So many more chunks, and then as long as it takes to be told and to kill.
        runner.wait(moments.randint(1, CHUNKS // (2 * KILLS)))
        runner.kill()
        again = parts & {number for _, number in runner.chunks}
        assert not again, "what lay on disk was computed again"
        computed += [number for _, number in runner.chunks]
        parts |= {int(part.name.partition(".")[0]) for part in directory.glob(f"{job}/*.parts/*.part")}
        assert len(parts) < CHUNKS, "nothing was left to be killed"
    last = start_runner(**settings)
    told = ended(client, job)
    last.stop()
    assert not parts & {number for _, number in last.chunks}
    computed += [number for _, number in last.chunks]
    assert told["state"] == "done", told
    assert told["chunks"] == {"done": CHUNKS, "of": CHUNKS}
    assert max(Counter(computed).values()) == 1
    # Of a chunk that was on disk and not told of any more, nobody was told.
    assert set(computed) | parts == set(range(CHUNKS))
    assert len(parts) > 0
    (tmp_path / "rows.csv").write_bytes(table)
    with Client(str(client.base_url)) as asking:
        score(asking, Job("diabetes", options={"samples": 20, "seed": 7}), tmp_path / "rows.csv", tmp_path / "out.csv")
    assert client.get(f"/v1/jobs/{job}/result").content == (tmp_path / "out.csv").read_bytes()
