"""A drill for two Ray nodes on this machine: python -m tests.deploy.ray_drill SCRIPT, which is JSON; prints JSON.

Deploys deploy/ray/serve.yaml as it is, but for what a machine has of cores and ports; asks it under load, kills a node
with everything on it, waits for its replacement, and asks for a large sampling, divided and not. All of it stays on the
loopback interface, is bounded, and ends by itself. Knows nothing of what the answers should be.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Before Ray is imported. All of it on the loopback interface, and a token for whoever wants to talk to Ray itself.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}

import httpx
import ray
import yaml
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from penumbra import Client, Patience, PenumbraError

ROOT = Path(__file__).parents[2]
CLIENTS = 32
PATIENCE = 180.0  # seconds before a hang is called one
_LOOK = threading.Event()  # never set: what is waited for has no bell


class Watching(httpx.HTTPTransport):
    """Notes each answer as it came, and what had to be asked again."""

    def __init__(self, answers: dict[str, str], again: list[str], told: Callable[[], None]) -> None:
        super().__init__()
        self._answers, self._again, self._told = answers, again, told

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        try:
            response = super().handle_request(request)
            body = response.read()
        except httpx.TransportError as error:
            self._again.append(type(error).__name__)
            raise
        if request.method == "POST":
            if response.status_code == httpx.codes.OK:
                self._answers[request.content.decode()] = body.decode()
                self._told()
            else:
                self._again.append(str(response.status_code))
        return httpx.Response(response.status_code, headers=response.headers, content=body)


def main(script: dict[str, Any]) -> dict[str, Any]:
    """What was seen."""
    cluster = Cluster(initialize_head=True, head_node_args=_node())
    try:
        lost = cluster.add_node(**_node())
        cluster.wait_for_nodes()
        ray.init(cluster.address, log_to_driver=False, namespace="serve")
        port = _free_port()
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        url = f"http://127.0.0.1:{port}"
        _deploy(script, ranges_away=8)
        large = script["large"]
        seen: dict[str, Any] = {"nodes": len(ray.nodes())}
        with httpx.Client(base_url=url, timeout=PATIENCE) as plain:
            seen["without a key"] = plain.post(large["path"], json=large["body"]).status_code
        seen |= _loaded(url, script, lambda: cluster.remove_node(lost, allow_graceful=False))
        cluster.add_node(**_node())
        began = time.monotonic()
        _wait(_at_full_strength)
        seen["seconds until as many as before"] = time.monotonic() - began
        seen["replicas after"] = {name: each.replica_states.get("RUNNING", 0) for name, each in _deployments().items()}
        seen["divided"], seen["seconds divided"] = _asked(url, script)
        seen["ranges evaluated by samplers"] = _ranges_evaluated()
        _deploy(script, ranges_away=0)
        seen["not divided"], seen["seconds not divided"] = _asked(url, script)
        return seen
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def _node() -> dict[str, Any]:
    """What a node is given. Ports that Ray would choose itself it waits for no longer than a busy machine may take."""
    ports = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    chosen = {name: _free_port() for name in ports}
    return {"num_cpus": 4, "object_store_memory": 128 * 2**20, "include_dashboard": False, **chosen}


def _deploy(script: dict[str, Any], ranges_away: int) -> None:
    """Deploys the configuration that ships, with a replica of each on both nodes, and settings of this machine."""
    configuration = yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text())
    (application,) = configuration["applications"]
    application["args"]["ranges_away"] = ranges_away
    application["runtime_env"]["env_vars"] = {**script["settings"], "PYTHONPATH": str(ROOT)}
    for deployment in application["deployments"]:
        del deployment["autoscaling_config"]
        deployment |= {"num_replicas": 2, "max_replicas_per_node": 1}
        deployment["ray_actor_options"] = {"num_cpus": 1}
        deployment["logging_config"] = {"enable_access_log": True}
    if not ranges_away:
        del application["deployments"][1]
    client = _get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
    wanted = {each["name"] for each in application["deployments"]}
    _wait(lambda: _deployments().keys() == wanted and _at_full_strength())


def _loaded(url: str, script: dict[str, Any], kill: Callable[[], None]) -> dict[str, Any]:
    """Asks by 32 clients, each its share, and kills a node when a third has been answered."""
    answers: dict[str, str] = {}
    again: list[str] = []
    failures: list[str] = []
    asked = script["load"]
    third = threading.Event()

    def told() -> None:
        if len(answers) >= len(asked) // 3:
            third.set()

    def client(number: int) -> None:
        patience = Patience(timeout=PATIENCE, retries=30, first_pause=0.05)
        with Client(
            url, api_key=script["key"], patience=patience, binary=False, transport=Watching(answers, again, told)
        ) as asking:
            for body in asked[number::CLIENTS]:
                try:
                    asking.sample(script["model"], body["inputs"], seed=body["seed"], samples=body["samples"])
                except PenumbraError as error:
                    failures.append(f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client, number) for number in range(CLIENTS)]
        third.wait(PATIENCE)
        before = len(answers)
        kill()
        for each in running:
            each.result()
    return {
        "answered before the node was killed": before,
        "answers": answers,
        "asked again": again,
        "failures": failures,
    }


def _asked(url: str, script: dict[str, Any]) -> tuple[str, float]:
    """The large sampling's answer, and how long the faster of two askings took."""
    large, seconds = script["large"], []
    with httpx.Client(base_url=url, timeout=PATIENCE, headers={"Authorization": f"Bearer {script['key']}"}) as client:
        for _ in range(2):
            began = time.monotonic()
            body = client.post(large["path"], json=large["body"]).text
            seconds.append(time.monotonic() - began)
    return body, min(seconds)


def _deployments() -> Any:
    found = serve.status().applications.get("penumbra")
    return found.deployments if found else {}


def _at_full_strength() -> bool:
    """Whether all that should run does, twice."""
    found = serve.status().applications.get("penumbra")
    return (
        found is not None
        and found.status == "RUNNING"
        and all(each.replica_states.get("RUNNING") == 2 for each in found.deployments.values())
    )


def _ranges_evaluated() -> int:
    """How often samplers were asked, by Ray Serve's own log."""
    logs = Path(ray._private.worker.global_worker.node.get_session_dir_path()) / "logs" / "serve"
    return sum(path.read_text().count("CALL evaluate OK") for path in logs.glob("*Samplers*.log"))


def _wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {serve.status()}")
        _LOOK.wait(0.2)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))) + "\n")
