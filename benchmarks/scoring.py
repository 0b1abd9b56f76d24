"""A file of a million rows through `penumbra score`, beside the same rows in requests of one row each.

    python -m benchmarks.scoring                 a million rows of 10 numbers; writes its section of RESULTS.md
    python -m benchmarks.scoring --rows 50000 --dry   a short run; writes nothing

The file is scored whole, and later once more by a process that is killed when half of it is done, and by the same
command again: both results must have the same bytes. Samplings are asked for a fifth of the rows. Single requests take
turns with it: one at a time, and four at a time, by the same client. Memory is what the command has resident at most,
and the service's growth beside it. Linux only: reads /proc.
"""

from __future__ import annotations

import argparse
import csv
import filecmp
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import figure, ratio, table, write_section
from benchmarks.servers import Server, bounded, penumbra
from benchmarks.timing import machine
from penumbra import Client
from service.settings import SHIPPED_STORE

_MODEL, _SEED, _BLOCK = "diabetes", 7, 10_000
_MIB = 2**20
_SINGLY_SECONDS = 10.0
_FEWER = 5  # samplings are asked for a fifth of the rows
_ABOUT = """\
`penumbra score` on rows of 10 numbers and an identifier (CSV, {size} MiB the larger file), against requests of one row
by the same client, one and four at a time; client and service share the cores. Memory: the most that the command had
resident, and what the service had beyond its memory at rest."""


class Run(NamedTuple):
    """One command: seconds, and the most bytes that it and the service had resident."""

    seconds: float
    client: int
    service: int


def main() -> None:
    """Measures, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dry", action="store_true", help="writes nothing")
    given = parser.parse_args()
    with bounded(minutes=60), ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penumbra-scoring-")))
        server = penumbra(SHIPPED_STORE, home / "log", 0)
        stack.callback(server.stop)
        text = section(home, server, given.rows)
    print("\n" + text)
    if not given.dry:
        write_section("scoring", text)


def section(home: Path, server: Server, rows: int) -> str:
    """The whole section, Markdown."""
    source, fewer, whole = home / "rows.csv", home / "fewer.csv", home / "whole.csv"
    write_rows(source, rows)
    write_rows(fewer, rows // _FEWER)
    at_rest = server.memory()
    lines = []
    for told, table_of, count, flags in (
        ("predict", source, rows, ["--predict"]),
        ("sample, 100 samples", fewer, rows // _FEWER, ["-s", "100", "--seed", str(_SEED)]),
    ):
        alone, four = singly(server, source, flags, 1), singly(server, source, flags, 4)
        run = scored(server, table_of, home / f"{flags[0]}.csv", flags)
        speed = count / run.seconds
        rates = [figure(speed), figure(alone), figure(four), ratio(speed, alone), ratio(speed, four)]
        lines.append([told, f"{count:,}", *rates, figure(run.client / _MIB), figure((run.service - at_rest) / _MIB)])
        print(*lines[-1], sep=" | ", flush=True)
    done = killed(server, source, whole, ["--predict"], rows // 2)
    resumed = scored(server, source, whole, ["--predict"])
    if not filecmp.cmp(home / "--predict.csv", whole, shallow=False):
        raise RuntimeError("the resumed result has other bytes than the whole one")
    header = ["", "rows", "rows/s", "singly, 1", "singly, 4", "÷ 1", "÷ 4", "client MiB", "service + MiB"]
    about = _ABOUT.format(size=figure(source.stat().st_size / _MIB))
    resumption = (
        f"The first, killed (SIGKILL) when {done:,} rows were done and run again: {figure(resumed.seconds)} s more, "
        "and the same bytes."
    )
    return "\n\n".join(["## Scoring a file", f"{machine()}.", about, table(header, lines), resumption])


def write_rows(path: Path, rows: int) -> None:
    """A table with an identifier, and numbers like those that the model was trained with."""
    draws = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"])
        for start in range(0, rows, _BLOCK):
            block = draws.normal(0, 0.05, (min(_BLOCK, rows - start), 10)).round(6).tolist()
            writer.writerows([f"{number:08}", *row] for number, row in enumerate(block, start))


def scored(server: Server, source: Path, out: Path, flags: list[str]) -> Run:
    """The command, to its end."""
    began = time.perf_counter()
    process = _command(server, source, out, flags)
    client = service = 0
    while process.poll() is None:
        client, service = max(client, _resident(process.pid)), max(service, server.memory())
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"penumbra score ended with {process.returncode}")
    return Run(time.perf_counter() - began, client, service)


def killed(server: Server, source: Path, out: Path, flags: list[str], after: int) -> int:
    """The command, killed when so many rows are done; how many were."""
    process = _command(server, source, out, flags)
    while (done := _done(out)) < after and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return done


def singly(server: Server, source: Path, flags: list[str], at_once: int) -> float:
    """Rows a second in requests of one row each, so many at a time."""
    options: dict[str, Any] = {} if "--predict" in flags else {"samples": 100, "seed": _SEED}
    with Client(f"http://127.0.0.1:{server.port}") as client, ThreadPoolExecutor(at_once) as pool:
        ask = client.sample if options else client.predict
        rows = _rows(source)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < _SINGLY_SECONDS:
            batch = list(islice(rows, 100))
            count += len(list(pool.map(lambda row: ask(_MODEL, [row], **options), batch)))
        return count / (time.perf_counter() - began)


def _rows(source: Path) -> Iterator[list[float]]:
    with source.open(newline="") as file:
        yield from ([float(cell) for cell in line[1:]] for line in islice(csv.reader(file), 1, None))


def _command(server: Server, source: Path, out: Path, flags: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "penumbra", "score", _MODEL, str(source), "-o", str(out), *flags]
    return subprocess.Popen([*command, "--url", f"http://127.0.0.1:{server.port}"])


def _done(out: Path) -> int:
    """Rows in the parts that are there: their names say so."""
    return sum(int(part.name.split(".")[1]) for part in out.with_name(out.name + ".parts").glob("*.part"))


def _resident(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
