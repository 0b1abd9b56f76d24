"""Rows as bytes against rows as JSON: the same predictions, over HTTP, from the same server.

    python -m benchmarks.binary           about three minutes; writes its section of benchmarks/RESULTS.md
    python -m benchmarks.binary --quick   one short round; writes nothing

A thousand rows of 64 features are sent in four spellings: native JSON, the Open Inference Protocol's JSON, and its
bytes, with an answer in JSON or in bytes. Needs wrk.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks import command, load, store
from benchmarks.jobs import Job, Speaker, Spelling
from benchmarks.report import figure, ratio, table
from benchmarks.rounds import Cell, Contender, Results, measure
from benchmarks.servers import penumbra
from benchmarks.timing import machine
from models.features import Float32

ROWS, DISTINCT = 1000, 4
JOBS = tuple(
    Job(f"{model}-{digits}", model, ROWS, samples=0, connections=(1, 8))
    for model in ("N", "W")
    for digits in ("full", "short")
)
_NAMES = {"N": "64 → 32 → 1", "W": "64 → 512 → 512 → 512 → 10"}
_ABOUT = f"""\
Requests per second, each a `predict` of {ROWS:,} rows of 64 float32 features: native JSON, JSON of the Open Inference
Protocol, its bytes with an answer in JSON, and bytes both ways. *Full* numbers have the digits of a float32 that is
read as float64, as Python's clients write it; *short* ones four decimals. The narrow network shows the codecs, the wide
one what is left of the difference where the matrix products take most of the time. One worker; wrk is the client, with
one thread, on the same cores; spellings take turns burst by burst, and figures are medians."""


def main() -> None:
    """Measures, and writes the section."""
    command.run(
        "binary",
        __doc__,
        lambda quick: section(run(rounds=1 if quick else 5, seconds=1.0 if quick else 1.5)),
        minutes=15,
    )


def run(rounds: int, seconds: float) -> Results:
    """Starts the server, measures, and ends it."""
    results = Results(facts={"machine": machine(), "wrk": load.version()})
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penumbra-binary-")))
        store.fill(home / "store")
        server = penumbra(home / "store", home / "log", workers=1)
        stack.callback(server.stop)
        server.observe_idleness()
        contenders = [Contender(name, server, speak) for name, speak in SPELLINGS.items()]
        results.facts["kilobytes"] = {
            job.name: {each.name: len(each.speak(job).body(0, 0)) / 1e3 for each in contenders} for job in JOBS
        }
        for number in range(1, rounds + 1):
            cells = [Cell(job, connections, seconds) for job in JOBS for connections in job.connections]
            measure(results, contenders, cells, number)
    return results


def section(results: Results) -> str:
    """The whole section, Markdown."""
    rates, sizes = [], []
    for job in JOBS:
        title = f"{_NAMES[job.model]}, {job.name.rpartition('-')[2]}"
        sizes.append([title, *(figure(results.facts["kilobytes"][job.name][name]) for name in SPELLINGS)])
        for connections in job.connections:
            seen = {name: results.median(name, job.name, connections, "rate") for name in SPELLINGS}
            against = [ratio(seen["bytes, bytes"], seen[name]) for name in ("JSON, JSON", "native")]
            rates.append([title, str(connections), *map(figure, seen.values()), *against])
    parts = [
        "## Bytes against JSON",
        f"{results.facts['machine']}; {results.facts['wrk']}.",
        _ABOUT,
        table(["model, numbers", "conn.", *SPELLINGS, "÷ JSON", "÷ native"], rates),
        "Kilobytes of one request:",
        table(["model, numbers", *SPELLINGS], sizes),
    ]
    if results.complaints:
        parts += ["### What went wrong", "\n".join(f"- {complaint}" for complaint in results.complaints)]
    return "\n\n".join(parts)


def _rows(job: Job) -> list[Float32]:
    """DISTINCT different inputs [rows, features]."""
    shape = (DISTINCT, job.rows, store.SPECS[job.model].inputs)
    draws = np.random.Generator(np.random.PCG64(store.SEED)).standard_normal(shape, np.float32)
    return list(draws)


def _values(job: Job, rows: Float32) -> list[list[float]]:
    """What JSON has of them."""
    exact = rows.astype(np.float64)
    values: list[list[float]] = (exact.round(4) if job.name.endswith("short") else exact).tolist()
    return values


def _native(job: Job) -> Spelling:
    bodies = (json.dumps({"inputs": _values(job, rows)}, separators=(",", ":")) for rows in _rows(job))
    return Spelling(f"/v1/models/{job.model}/predict", tuple(bodies))


def _json(job: Job) -> Spelling:
    return _protocol(job, lambda rows: ({"data": list(chain(*_values(job, rows)))}, b""), binary_answer=False)


def _bytes(job: Job, *, binary_answer: bool) -> Spelling:
    return _protocol(
        job,
        lambda rows: ({"parameters": {"binary_data_size": rows.nbytes}}, rows.tobytes()),
        binary_answer=binary_answer,
    )


def _protocol(
    job: Job, tensor: Callable[[Float32], tuple[dict[str, object], bytes]], *, binary_answer: bool
) -> Spelling:
    bodies: list[str] = []
    headers: tuple[str, ...] = ("Content-Type: application/json",)
    for rows in _rows(job):
        fields, raw = tensor(rows)
        text = json.dumps(
            {
                "parameters": {"binary_data_output": binary_answer},
                "inputs": [{"name": "inputs", "shape": rows.shape, "datatype": "FP32", **fields}],
            },
            separators=(",", ":"),
        )
        bodies.append(text + raw.decode("latin-1"))
        if raw:
            headers = ("Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(text)}")
    return Spelling(f"/v2/models/{job.model}/infer", tuple(bodies), headers=headers)


SPELLINGS: dict[str, Speaker] = {
    "native": _native,
    "JSON, JSON": _json,
    "bytes, JSON": partial(_bytes, binary_answer=False),
    "bytes, bytes": partial(_bytes, binary_answer=True),
}

if __name__ == "__main__":
    main()
