"""What the service and its models say of themselves, in the protocol's words. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from penumbra import __version__
from service.api.oip import outputs
from service.api.oip.outputs import ANY, Kind
from service.api.oip.requests import INPUT
from service.catalogue import Entry
from service.counts import Counts
from service.served import ServedModel

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")
PLATFORM = "penumbra_safetensors"


def server() -> dict[str, Any]:
    """The service."""
    return {"name": "penumbra", "version": __version__, "extensions": EXTENSIONS}


def model(served: ServedModel, versions: Iterable[str]) -> dict[str, Any]:
    """A version's tensors; `versions` are those that may be asked for."""
    return {
        "name": served.manifest.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": [_tensor(_input(served))],
        "outputs": [_tensor(kind) for kind in outputs.kinds(served)],
    }


def config(served: ServedModel) -> dict[str, Any]:
    """The same as Triton's model configuration has it; no dimension is left out as that of a batch."""
    manifest = served.manifest
    return {
        "name": manifest.name,
        "platform": PLATFORM,
        "backend": "penumbra",
        "max_batch_size": 0,
        "input": [_configured(_input(served))],
        "output": [_configured(kind) for kind in outputs.kinds(served)],
        "parameters": {
            "version": {"string_value": manifest.version},
            "task": {"string_value": manifest.task},
            "digest": {"string_value": manifest.digest},
        },
    }


def statistics(counts: Mapping[tuple[str, str], Counts], versions: Iterable[ServedModel]) -> dict[str, Any]:
    """What this worker process has counted. Company is not: each answer is an execution of its own."""
    return {"model_stats": [_counted(served, counts) for served in versions]}


def index(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """The repository's versions."""
    return [
        {
            "name": entry.name,
            "version": entry.version,
            "state": "READY" if entry.ready else "UNAVAILABLE",
            "reason": entry.reason,
        }
        for entry in entries
    ]


def _input(served: ServedModel) -> Kind:
    return Kind(INPUT, "FP32", (ANY, len(served.standard.names)))


def _tensor(kind: Kind) -> dict[str, Any]:
    return {"name": kind.name, "datatype": kind.datatype, "shape": kind.shape}


def _configured(kind: Kind) -> dict[str, Any]:
    datatype = "STRING" if kind.datatype == "BYTES" else kind.datatype
    return {"name": kind.name, "data_type": f"TYPE_{datatype}", "dims": kind.shape}


def _counted(served: ServedModel, counts: Mapping[tuple[str, str], Counts]) -> dict[str, Any]:
    name, version = served.manifest.name, served.manifest.version
    counted = counts.get((name, version)) or Counts()
    answers = counted.answers
    none = _duration(0, 0.0)
    return {
        "name": name,
        "version": version,
        "last_inference": int(counted.last * 1e3),
        "inference_count": counted.rows,
        "execution_count": answers,
        "inference_stats": {
            "success": _duration(
                answers + counted.found, counted.queue_seconds + counted.compute_seconds + counted.found_seconds
            ),
            "fail": _duration(counted.failures, counted.failed_seconds),
            "queue": _duration(answers, counted.queue_seconds),
            "compute_input": none,
            "compute_infer": _duration(answers, counted.compute_seconds),
            "compute_output": none,
            "cache_hit": _duration(counted.found, counted.found_seconds),
            "cache_miss": none,
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(seconds * 1e9)}
