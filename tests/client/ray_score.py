"""Scores a table on one Ray cluster, cut in several ways, with a worker killed: python -m tests.client.ray_score JSON.

Prints JSON: of each way, how many rows it made. Everything stays on this machine.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray

from penumbra import Client
from penumbra.scoring import Job, score
from penumbra.scoring.cluster import Cluster

_LOOK = threading.Event()  # never set
_MOST_LOOKS = 1200


def main(script: dict[str, Any]) -> dict[str, Any]:
    """What was done."""
    connect = partial(Client, script["url"])
    job = Job(script["model"], options=script["options"], batch_rows=script["batch_rows"], missing="blank")
    folder = Path(script["folder"])
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False, object_store_memory=128 * 2**20)
    seen: dict[str, Any] = {}
    with connect() as client:

        def run(name: str, source: str, engine: Cluster, **options: Any) -> None:
            outcome = score(client, job, source, folder / f"{name}.parquet", engine=engine, **options)
            seen[name] = outcome.rows

        for blocks in (1, 3, None):
            run(f"cut into {blocks}", script["source"], Cluster(connect, 2, blocks))
        killer = threading.Thread(target=_kill_a_worker, args=(folder / "killed.parquet.parts", seen))
        killer.start()
        run("killed", script["source"], Cluster(connect, 2))
        killer.join()
    ray.shutdown()
    return seen


def _kill_a_worker(parts: Path, seen: dict[str, Any]) -> None:
    """Ends one of those who ask, by a signal that can't be caught, when their first part is there."""
    for _ in range(_MOST_LOOKS):
        if list(parts.glob("*.part")):
            break
        _LOOK.wait(0.02)
    workers = list(_workers())
    if workers:
        os.kill(workers[0], signal.SIGKILL)
    seen["workers killed"] = len(workers[:1])


def _workers() -> Iterator[int]:
    """Processes of this cluster that ask: they have its mark, and Ray calls them by what they do."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = os.environ["OF_THIS_CLUSTER"].encode() in (process / "environ").read_bytes()
            asks = b"_Asker" in (process / "cmdline").read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        if ours and asks:
            yield int(process.name)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))) + "\n")
