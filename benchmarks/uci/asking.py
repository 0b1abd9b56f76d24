"""A service of its own, with a store that is filled while it runs; and what it says of rows, over HTTP.

Knows nothing of targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import orjson

from benchmarks.servers import penumbra
from models.features import Float64

_AT_ONCE = 1000  # rows of a request
LEVEL = 0.9
_EDGES = (0.05, 0.95)


class Told(NamedTuple):
    """What the service says of test rows, in raw units.

    mean [rows, 1]; the components of the predictive mixture, means and standard deviations [samples, rows, 1]; the
    interval, its kind, and the quantiles at the interval's edges, each bound [rows, 1].
    """

    mean: Float64
    means: Float64
    stds: Float64
    kind: str
    interval: tuple[Float64, Float64]
    quantiles: tuple[Float64, Float64]


class Service:
    """A running service, asked as its users ask it. Raises httpx.HTTPStatusError where it refuses."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def load(self, model: str) -> None:
        """Serves a model that has come into the store."""
        self._client.post(f"/v2/repository/models/{model}/load").raise_for_status()

    def ask(self, model: str, rows: Float64, samples: int, seed: int) -> Told:
        """What an ensemble of committees says of rows [rows, features]."""
        blocks = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
        parts = [self._ask(model, block, samples, seed) for block in blocks]
        (kind,) = {part.kind for part in parts}
        return Told(
            mean=np.concatenate([part.mean for part in parts]),
            means=np.concatenate([part.means for part in parts], axis=1),
            stds=np.concatenate([part.stds for part in parts], axis=1),
            kind=kind,
            interval=_joined([part.interval for part in parts]),
            quantiles=_joined([part.quantiles for part in parts]),
        )

    def _ask(self, model: str, rows: Float64, samples: int, seed: int) -> Told:
        options = {"seed": seed, "samples": samples, "interval": LEVEL, "quantiles": _EDGES}
        told = self._sample(model, rows, options)
        # The answer has every sample's mean on request, not its noise. Asked one by one, as the prefix law allows, the
        # samples are the same ones, and `aleatoric_std` is each one's own.
        alone = [
            self._sample(model, rows, {"seed": seed, "samples": 1, "first_sample": first}) for first in range(samples)
        ]
        interval, quantiles = told["interval"], told["quantiles"]
        return Told(
            mean=np.array(told["mean"]),
            means=np.array([one["mean"] for one in alone]),
            stds=np.array([one["aleatoric_std"] for one in alone]),
            kind=interval["kind"],
            interval=(_bound(interval["lower"], -np.inf, rows), _bound(interval["upper"], np.inf, rows)),
            quantiles=(np.array(quantiles[str(_EDGES[0])]), np.array(quantiles[str(_EDGES[1])])),
        )

    def _sample(self, model: str, rows: Float64, options: dict[str, Any]) -> Any:
        body = orjson.dumps({"inputs": rows, "method": "ensemble", **options}, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self._client.post(
            f"/v1/models/{model}/sample", content=body, headers={"Content-Type": "application/json"}
        )
        answer.raise_for_status()
        return orjson.loads(answer.content)


@contextmanager
def service(store: Path, log: Path) -> Iterator[Service]:
    """A service over a store that is empty yet, on a free port of the loopback interface, gone at the end."""
    store.mkdir()
    server = penumbra(store, log, workers=1)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=120.0) as client:
            yield Service(client)
    finally:
        server.stop()


def _bound(values: list[list[float]] | None, infinite: float, rows: Float64) -> Float64:
    """A bound; where it is undefined it is at infinity, for the calibration had too few rows."""
    return np.full((len(rows), 1), infinite) if values is None else np.array(values)


def _joined(pairs: list[tuple[Float64, Float64]]) -> tuple[Float64, Float64]:
    lower, upper = zip(*pairs, strict=True)
    return np.concatenate(lower), np.concatenate(upper)
