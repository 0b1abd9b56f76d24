"""Jobs about models of tables with texts, truth values and gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from penumbra import Client
from penumbra.scoring import Job, score
from tests.client.houses import ROWS, train_houses
from tests.durable.runners import Runner


def test_a_file_rows_and_json_are_scored_as_requests_are(
    tmp_path: Path, start_server: Callable[..., Any], start_runner: Callable[..., Runner]
) -> None:
    """The very file that the model was trained from, its rows in memory, and the same as JSON: one result."""
    train_houses(tmp_path)
    (directory := tmp_path / "jobs").mkdir()
    settings = {"jobs_dir": directory, "store": tmp_path / "store", "job_chunk_rows": 50}
    server, runner = start_server(**settings), start_runner(**settings)
    frame = pd.read_csv(tmp_path / "houses.csv", dtype={"id": str})
    rows = json.loads(frame[["rooms", "heating", "garden", "age"]].to_json(orient="records"))
    with Client(server.url) as client:
        score(
            client, Job("houses", options={"samples": 20, "seed": 7}), tmp_path / "houses.csv", tmp_path / "scored.csv"
        )
        jobs = [
            client.submit("houses", table, samples=20, seed=7)
            for table in (tmp_path / "houses.csv", rows, frame[list(rows[0])])
        ]
        sent = {"model": "houses", "inputs": rows, "samples": 20, "seed": 7}
        jobs.append(client.job(server.client.post("/v1/jobs", json=sent).json()["id"]))
        out = [job.result(tmp_path / f"{number}.csv") for number, job in enumerate(jobs)]
    runner.stop()
    assert out[0].read_bytes() == (tmp_path / "scored.csv").read_bytes()
    results = [pd.read_csv(path) for path in out]
    assert len(results[0]) == ROWS
    for other in results[1:]:
        assert other.equals(results[0][list(other)])
