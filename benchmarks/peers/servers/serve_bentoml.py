"""BentoML: a batchable endpoint, so that its adaptive dispatcher forms the batches; two workers."""

from __future__ import annotations

from typing import Any

import bentoml
import mlp


@bentoml.service(workers=2, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Networks:
    """The models of the store."""

    def __init__(self) -> None:
        self.networks = mlp.load()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=10_000)
    def answer(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A batch."""
        return mlp.answer_many(self.networks, requests)
