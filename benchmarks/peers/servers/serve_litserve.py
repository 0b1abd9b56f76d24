"""LitServe: its batching, two workers.

Batches form while the workers are busy; the timeout is short, since a lone request would wait for it.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
import mlp


class Networks(litserve.LitAPI):
    """Decodes and encodes as LitServe does by default: JSON is all there is."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """In each worker."""
        self.networks = mlp.load()

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A list is a batch."""
        return inputs

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A batch."""
        return mlp.answer_many(self.networks, x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A list is a batch."""
        return output


if __name__ == "__main__":
    api = Networks(max_batch_size=32, batch_timeout=0.001, api_path="/answer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, timeout=60, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
