"""Triton: its Python backend with dynamic batching and two instances of each model, over the V2 protocol.

The server is the one in the nvidia-pytriton wheel. Run as a script this lays out a model repository and a backend
directory and starts it; the backend loads this file again, as the model. A seed is a parameter of a request.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import mlp

_MODEL = """
backend: "python"
max_batch_size: 64
input [{{ name: "rows", data_type: TYPE_FP32, dims: [{0}] }}]
output [{{ name: "mean", data_type: TYPE_FP32, dims: [{1}] }}, {{ name: "std", data_type: TYPE_FP32, dims: [{1}] }}]
instance_group [{{ count: 2, kind: KIND_CPU }}]
dynamic_batching {{ }}
"""


class TritonPythonModel:
    """One network."""

    def initialize(self, args: dict[str, str]) -> None:
        """In each instance."""
        self.name, self.networks = args["model_name"], mlp.load()

    def execute(self, requests: list[Any]) -> list[Any]:
        """A batch of requests."""
        import triton_python_backend_utils as triton

        rows = [triton.get_input_tensor_by_name(request, "rows").as_numpy() for request in requests]
        given = [{"model": self.name, **json.loads(request.parameters())} for request in requests]
        asked = [{"inputs": x, **parameters} for x, parameters in zip(rows, given, strict=True)]
        answers = mlp.tensors_for_many(self.networks, asked)
        return [triton.InferenceResponse([triton.Tensor(k, v.numpy()) for k, v in a.items()]) for a in answers]


if __name__ == "__main__":
    port, folder, site = sys.argv[1], Path(sys.argv[3]), Path(sysconfig.get_path("purelib"))
    wheel, models, backends = site / "pytriton" / "tritonserver", folder / "models", folder / "backends"
    stub = wheel / "python_backend_stubs" / sysconfig.get_python_version() / "triton_python_backend_stub"
    shutil.copy(stub, shutil.copytree(wheel / "backends" / "python", backends / "python"))
    for name, network in mlp.load().items():
        (models / name / "1").mkdir(parents=True)
        shutil.copy(__file__, models / name / "1" / "model.py")
        shutil.copy(mlp.__file__, models / name / "1")
        sizes = network.thinned[0].in_features, network.thinned[-1].out_features
        (models / name / "config.pbtxt").write_text(_MODEL.format(*sizes))
    # The backend's interpreter finds its packages beside the first python3 on the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["LD_LIBRARY_PATH"] = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    flags = ["--allow-grpc=false", "--allow-metrics=false", "--http-address=127.0.0.1", f"--http-port={port}"]
    places = [f"--model-repository={models}", f"--backend-directory={backends}"]
    os.execv(wheel / "bin" / "tritonserver", ["tritonserver", *places, *flags])
