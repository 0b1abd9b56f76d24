"""What is asked for, and how it is spelled to a server. Knows nothing of how servers are run or load is made.

A job is spoken in one of two languages: `ours`, Penumbra's, and `plain`, the same JSON for servers where one address
answers for all models. Peers that have a protocol of their own bring their own function from a job to a `Spelling`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.store import pool

SAMPLES = 100


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of request: `samples` 0 is a prediction.

    `seeds` says where the seed of a sampling request comes from. own: each has its own; repeated: all have the same;
    free: each has its own where the server takes seeds as a matter of course, and none elsewhere. A job is `slow`
    where a burst sees few answers.
    """

    name: str
    model: str
    rows: int
    samples: int = SAMPLES
    seeds: Literal["own", "repeated", "free"] = "own"
    connections: tuple[int, ...] = (1, 8, 32)
    slow: bool = False

    @property
    def title(self) -> str:
        """For a heading or a table."""
        rows = f"{self.rows} row{'s' if self.rows > 1 else ''}"
        if not self.samples:
            return f"{self.model}, `predict` {rows}"
        which = {"own": ", seeds honoured", "repeated": ", one repeated seed", "free": ""}[self.seeds]
        return f"{self.model}, `sample` {self.samples:,} × {rows}{which}"


@dataclass(frozen=True, slots=True)
class Spelling:
    """Bodies of requests that differ in their rows; with `tail`, a seed of DIGITS digits stands before it.

    Texts are Latin-1, a character a byte, so that a body may also hold bytes.
    """

    path: str
    heads: tuple[str, ...]
    tail: str | None = None
    headers: tuple[str, ...] = ("Content-Type: application/json",)

    def body(self, number: int, seed: int) -> bytes:
        """One whole body."""
        head = self.heads[number % len(self.heads)]
        return (head if self.tail is None else f"{head}{seed}{self.tail}").encode("latin-1")


Speaker = Callable[[Job], Spelling]
ONE_SEED = 7


def spelled(path: str, bodies: Iterable[dict[str, object]], seed: str | None) -> Spelling:
    """Bodies to which a last field with the seed is added, where there is a name for it."""
    texts = [json.dumps(body, separators=(",", ":")) for body in bodies]
    if seed is None:
        return Spelling(path, tuple(texts))
    return Spelling(path, tuple(f'{text[:-1]},"{seed}":' for text in texts), "}")


def ours(job: Job) -> Spelling:
    """As Penumbra is asked."""
    path = f"/v1/models/{job.model}/{'sample' if job.samples else 'predict'}"
    options: dict[str, object] = {"samples": job.samples} if job.samples else {}
    if job.seeds == "repeated":
        options["seed"] = ONE_SEED
    bodies = [{"inputs": rows, **options} for rows in pool(job.model, job.rows)]
    return spelled(path, bodies, "seed" if job.samples and job.seeds != "repeated" else None)


def plain(path: str) -> Speaker:
    """As servers with one address are asked: the model and the number of samples are part of the body."""

    def speak(job: Job) -> Spelling:
        bodies: list[dict[str, object]] = [
            {"model": job.model, "samples": job.samples, "inputs": rows} for rows in pool(job.model, job.rows)
        ]
        return spelled(path, bodies, "seed" if job.samples and job.seeds == "own" else None)

    return speak


JOBS = (
    Job("predict-S-1", "S", 1, samples=0),
    Job("predict-W-1", "W", 1, samples=0),
    Job("sample-S-1", "S", 1, seeds="free"),
    Job("sample-W-1", "W", 1, seeds="free"),
    Job("sample-W5-1", "W5", 1, seeds="free"),
    Job("sample-S-64", "S", 64, seeds="free", slow=True),
    # Not at 32: that many would wait for each other for seconds, and say nothing that 8 do not.
    Job("sample-W-64", "W", 64, seeds="free", connections=(1, 8), slow=True),
    Job("sample-W5-64", "W5", 64, seeds="free", connections=(1, 8), slow=True),
)
