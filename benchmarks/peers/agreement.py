"""Do contenders compute the same? Their predictions are compared, whatever their protocol wraps them in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from benchmarks.jobs import Job, Speaker, ours
from benchmarks.load import ask

_JOBS = (Job("agreement", "S", 64, samples=0), Job("agreement", "W", 1, samples=0))
_LARGEST = 1e-4


def disagreement(port: int, speak: Speaker, reference_port: int) -> str:
    """In a line, how a server's predictions differ from Penumbra's; empty where they do not."""
    for job in _JOBS:
        theirs = _numbers(json.loads(ask(port, speak(job))[0]))
        expected = _numbers(json.loads(ask(reference_port, ours(job))[0]))
        if theirs.shape != expected.shape:
            return f"answers {theirs.size} numbers where {expected.size} were expected"
        if (largest := float(np.abs(theirs - expected).max())) > _LARGEST:
            return f"its prediction of {job.model} is off by {largest:.2g}"
    return ""


def _numbers(answer: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The predicted numbers in an answer, flat: of us, of plain servers, of a batch of one, of the V2 protocol."""
    if isinstance(answer, list):
        return _numbers(answer[0])
    if "outputs" in answer:
        return np.ravel(answer["outputs"][0]["data"]).astype(np.float64)
    return np.ravel(answer["probabilities"] if "probabilities" in answer else answer["mean"]).astype(np.float64)
