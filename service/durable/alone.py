"""One process works on the jobs of a directory: whether this one may is known before anything heavy is imported."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service import durable
from service.settings import Settings

COMPLAINT = "python -m service jobs: error: "


@contextmanager
def alone(settings: Settings) -> Iterator[Path]:
    """The directory of jobs, on which nobody else works meanwhile; ends the process where somebody does."""
    directory = settings.jobs_dir
    if directory is None:
        sys.exit(f"{COMPLAINT}--jobs-dir (or PENUMBRA_JOBS_DIR) says where jobs are, and is not set")
    if not durable.is_installed():
        sys.exit(f"{COMPLAINT}needs DBOS: install the extra jobs")
    # The lock goes with whoever holds it, however it ends.
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"{COMPLAINT}another process works on the jobs in {directory}")
        yield directory
