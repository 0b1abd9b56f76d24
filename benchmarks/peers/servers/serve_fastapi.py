"""FastAPI: the plain way, without batching; `uvicorn --workers 2`. BENCH_LOOP=1 makes it a loop of forwards.

Endpoints are `async def`: a forward of S is shorter than the hop to a thread pool, and with one thread per worker there
is no core left to hop to. Request and response are pydantic models, as FastAPI recommends for speed and for its docs.
"""

from __future__ import annotations

import os
from typing import Any

import mlp
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
networks = mlp.load()
LOOP = os.environ.get("BENCH_LOOP") == "1"


class Question(BaseModel):
    """One request."""

    model: str
    inputs: list[list[float]]
    samples: int = 0
    seed: int | None = None


class Answer(BaseModel):
    """What comes back."""

    mean: list[list[float]]
    std: list[list[float]] | None = None


@app.get("/ready")
async def ready() -> dict[str, bool]:
    """Says that it is up."""
    return {"ready": True}


@app.post("/answer", response_model_exclude_none=True)
async def answer(question: Question) -> Answer:
    """One forward for all samples, or one for each."""
    asked: dict[str, Any] = question.model_dump()
    return Answer.model_construct(**mlp.answer(networks, asked, loop=LOOP))
