"""Files scored by a Ray cluster: however the work is cut and whoever dies, the bytes of one process."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from penumbra import Client
from penumbra.scoring import Job, score
from tests.api.live import ROOT, Server

pytest.importorskip("ray.data", reason="Ray is not installed: extra ray, `make ray-check`")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS, BATCH = 3000, 100
NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
OPTIONS = {"samples": 400, "seed": 7}
# All of it on the loopback interface, with a mark by which its processes are known.
CLUSTER = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(ROOT),
    "OF_THIS_CLUSTER": secrets.token_hex(16),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows in small groups, with an identifier, and some that lack a number."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    frame = pd.DataFrame(np.random.default_rng(0).normal(0, 0.05, (ROWS, 10)), columns=NAMES)
    frame.insert(0, "id", [f"{number:05}" for number in range(ROWS)])
    frame.loc[[0, 777, ROWS - 1], "bmi"] = np.nan
    frame.to_parquet(path, index=False, row_group_size=270)
    return path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command at the repository's root; of the environment's variables about Ray and Penumbra none is passed on."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENUMBRA_", "RAY_"))}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**kept, **CLUSTER},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def whole(server: Server, table: Path) -> bytes:
    """The result of one process."""
    out = table.with_name("whole.parquet")
    with Client(server.url) as client:
        outcome = score(client, Job("diabetes", options=OPTIONS, batch_rows=BATCH, missing="blank"), table, out)
    assert (outcome.rows, outcome.blank) == (ROWS, 3)
    return out.read_bytes()


def test_however_it_is_cut_and_whoever_dies(server: Server, table: Path, whole: bytes, tmp_path: Path) -> None:
    """In one block, in three, in one for each batch, and with a worker killed: the same file, byte for byte."""
    script = tmp_path / "script.json"
    asked: dict[str, Any] = {"url": server.url, "model": "diabetes", "options": OPTIONS, "batch_rows": BATCH}
    script.write_text(json.dumps({**asked, "source": str(table), "folder": str(tmp_path)}))
    done = run("tests.client.ray_score", str(script))
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("workers killed") == 1
    assert set(seen.values()) == {ROWS}
    for name in seen:
        assert (tmp_path / f"{name}.parquet").read_bytes() == whole, name


def test_the_command_goes_on_where_threads_stopped(server: Server, table: Path, whole: bytes, tmp_path: Path) -> None:
    """Parts of one engine are taken up by the other, also where some in the midst are missing."""
    out = tmp_path / "out.parquet"
    command = ["penumbra", "score", "diabetes", str(table), "-o", str(out), "--seed", "7", "-s", "400"]
    command += ["--batch-rows", str(BATCH), "--missing", "blank", "--url", server.url]
    with Client(server.url) as client:
        job = Job("diabetes", options=OPTIONS, batch_rows=BATCH, missing="blank")

        def stop(done: int, _total: int, _before: int) -> None:
            if done >= 500:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            score(client, job, table, out, progress=stop)
    made = sorted(out.with_name("out.parquet.parts").glob("*.part"))
    assert len(made) == 5
    made[1].unlink()
    done = run(*command, "--engine", "ray")
    assert done.returncode == 0, done.stderr
    assert "400 of them were done before" in done.stderr
    assert out.read_bytes() == whole


def test_mistakes_are_told_in_a_sentence(server: Server, table: Path, tmp_path: Path) -> None:
    """What a worker found, without its stack; and what Ray can't read."""
    command = ["penumbra", "score", "diabetes"]
    rest = ["-o", str(tmp_path / "out.parquet"), "--url", server.url, "--engine", "ray"]
    done = run(*command, str(table), *rest)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("penumbra: row 1: bmi is missing, NaN or infinite")
    assert "Traceback" not in done.stderr
    text = tmp_path / "rows.csv"
    text.write_text(",".join(NAMES) + "\n" + ",".join("0" * 10) + "\n")
    done = run(*command, str(text), *rest[:1], str(tmp_path / "other.csv"), *rest[2:])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is not Parquet" in done.stderr
