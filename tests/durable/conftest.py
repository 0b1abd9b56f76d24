"""What the tests of jobs share: a table, a service that takes jobs, and one process that works on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from tests.access.keys import make
from tests.api.live import Server
from tests.durable.runners import Runner

NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


class Office(NamedTuple):
    """A service with jobs, the keys of those who may ask it, and the directory."""

    server: Server
    keys: dict[str, str]
    directory: Path


@pytest.fixture(scope="session")
def table() -> bytes:
    """Rows as CSV, with a column that the model does not take."""
    numbers = np.random.default_rng(0).normal(0, 0.05, (610, 10))
    frame = pd.DataFrame(numbers, columns=NAMES)
    frame["note"] = [("plain", "with, comma", 'with "quotes"', "on two\nlines", "")[n % 5] for n in range(610)]
    written: str = frame.to_csv(index=False)
    return written.encode()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """One for all tests of a file; nobody works on its jobs."""
    folder = tmp_path_factory.mktemp("office")
    (directory := folder / "jobs").mkdir()
    keys = make(folder / "keys", one="infer,read", other="infer", reader="read", digits="infer:digits")
    server = Server(
        jobs_dir=directory, keys_file=folder / "keys", max_jobs=20, max_job_bytes=200_000, job_chunk_rows=64
    )
    yield Office(server, keys, directory)
    server.stop()


@pytest.fixture
def start_runner() -> Iterator[Callable[..., Runner]]:
    """Starts processes that work on jobs, with settings of one's own; what is left is killed."""
    with ExitStack() as started:

        def start(**settings: object) -> Runner:
            runner = Runner(**settings)
            started.callback(runner.kill)
            return runner

        yield start
