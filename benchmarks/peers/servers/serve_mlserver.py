"""MLServer: a custom runtime with adaptive batching and two parallel workers, over the V2 protocol.

A model per network and kind of request, since batching joins the tensors of requests and nothing else; for seeds a
model without batching. Run as a script this writes the settings files and starts the server.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import mlp
import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

SAMPLES = 100


class Runtime(MLModel):
    """Named <network>-predict, -sample or -seeded."""

    async def load(self) -> bool:
        """In each worker."""
        network, _, self.kind = self.name.rpartition("-")
        self.network = mlp.load()[network]
        return True

    @torch.inference_mode()
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A batch, joined to one tensor."""
        rows = torch.from_numpy(NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32))
        if self.kind == "predict":
            found = [("mean", self.network.predict(rows))]
        else:
            if self.kind == "seeded":
                torch.manual_seed(payload.parameters.seed)
            parts = [self.network.draws(part, SAMPLES) for part in rows.split(mlp.MOST_ROWS)]
            found = [("mean", torch.cat([p.mean(0) for p in parts])), ("std", torch.cat([p.std(0) for p in parts]))]
        outputs = [NumpyCodec.encode_output(name, tensor.numpy()) for name, tensor in found]
        return InferenceResponse(model_name=self.name, outputs=outputs)


if __name__ == "__main__":
    port, more, folder = int(sys.argv[1]), list(map(int, sys.argv[2].split(","))), Path(sys.argv[3])
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": more[0], "metrics_port": more[1]}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 2, "debug": False}))
    for network in mlp.load():
        for kind in ("predict", "sample", "seeded"):
            batching = {} if kind == "seeded" else {"max_batch_size": 32, "max_batch_time": 0.001}
            home = folder / f"{network}-{kind}"
            home.mkdir()
            model = {"name": home.name, "implementation": "serve_mlserver.Runtime", **batching}
            (home / "model-settings.json").write_text(json.dumps(model))
    command = str(Path(sys.executable).parent / "mlserver")
    os.execv(command, [command, "start", str(folder)])
