"""Ray Serve: two replicas with `serve.batch`, in its throughput-optimised mode, behind HAProxy.

The mode and the proxy are switched on by environment variables, as its guide to performance says. Ray's own parts
listen on all interfaces; what is asked here listens on the loopback interface.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

PORT, FOLDER = int(sys.argv[1]), sys.argv[3]
for name, file in (("CONFIG_FILE_LOC", "cfg"), ("SOCKET_PATH", "sock"), ("SERVER_STATE_FILE", "state")):
    os.environ[f"RAY_SERVE_HAPROXY_{name}"] = f"{FOLDER}/proxy.{file}"
os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"] = FOLDER
os.environ["RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"] = f"{FOLDER}/metrics.sock"

import mlp  # noqa: E402
import ray  # noqa: E402
from ray import serve  # noqa: E402
from starlette.requests import Request  # noqa: E402


@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Networks:
    """The models of the store, in each replica."""

    def __init__(self) -> None:
        self.networks = mlp.load()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0)
    async def answer(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A batch: what has come in meanwhile, without waiting for more."""
        return mlp.answer_many(self.networks, requests)

    async def __call__(self, request: Request) -> Any:
        """One request."""
        if request.method == "GET":
            return {"ready": True}
        return await self.answer(await request.json())


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=FOLDER)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config={"enable_access_log": False})
    serve.run(Networks.bind(), route_prefix="/")
    signal.pause()
