"""Run by the Python that has the KServe SDK: asks the service at the given address, and prints what came of it as JSON.

Each case is a name and what the client returned, or the name and text of the exception that it raised.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def request(rows: list[list[float]], *, binary: bool, **more: Any) -> InferRequest:
    """Rows as FP64, in JSON or in bytes."""
    tensor = InferInput("inputs", [len(rows), len(rows[0])], "FP64")
    tensor.set_data_from_numpy(np.array(rows), binary_data=binary)
    return InferRequest("diabetes", [tensor], **more)


async def told(case: Awaitable[Any]) -> Any:
    """What a call returned, or raised."""
    try:
        answer = await case
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return {"raised": type(error).__name__, "text": str(error)}
    if isinstance(answer, bool):
        return answer
    outputs = {each.name: each.as_numpy().tolist() for each in answer.outputs}
    return {"model": answer.model_name, "id": answer.id, "parameters": answer.parameters, "outputs": outputs}


async def main(url: str, rows: list[list[float]]) -> dict[str, Any]:
    """Every case."""
    sampling = {"seed": 7, "samples": 100, "quantiles": "0.05,0.5"}
    both = [RequestedOutput("std", {"binary_data": True}), RequestedOutput("mean", {"binary_data": False})]
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        def infer(model: str = "diabetes", *, binary: bool = False, **more: Any) -> Awaitable[Any]:
            return client.infer(url, request(rows, binary=binary, **more), model_name=model)

        cases: dict[str, Awaitable[Any]] = {
            "live": client.is_server_live(url),
            "ready": client.is_server_ready(url),
            "model ready": client.is_model_ready(url, "diabetes"),
            "unknown model ready": client.is_model_ready(url, "none"),
            "json": infer(),
            "bytes": infer(binary=True),
            "bytes both ways": infer(binary=True, parameters={"binary_data_output": True}),
            "sampling": infer(parameters=sampling),
            "sampling in bytes": infer(binary=True, parameters={**sampling, "binary_data_output": True}),
            "mixed": infer(parameters=sampling, request_outputs=both),
            "id": infer(request_id="mine"),
            "labels": client.infer(
                url,
                {"inputs": [{"name": "inputs", "shape": [1, 64], "datatype": "INT8", "data": [0] * 64}]},
                model_name="digits",
            ),
            "unknown model": infer("none"),
            "unusable seed": infer(parameters={"seed": "7.0"}),
        }
        return {name: await told(case) for name, case in cases.items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))))  # noqa: T201 - it is the answer
