"""Loading and unloading through tritonclient, with two worker processes that must agree.

Nobody watches the store here, so that only orders change what is served.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.api.live import Server
from tests.api.stores import corrupt, publish
from tests.api.wire import TINY_ROWS
from tests.service.test_serving import workers_of

OFTEN = 24  # connections: that one worker accepts them all is as likely as a coin that falls the same way as often


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two models."""
    found = tmp_path_factory.mktemp("managed")
    for name in ("steady", "moving"):
        publish(found, name, "1")
    return found


@pytest.fixture(scope="module")
def managed(store: Path) -> Iterator[Server]:
    """A service of two worker processes."""
    running = Server(store=store, workers=2, threads=1, watch_seconds=0)
    yield running
    running.stop()


@pytest.fixture
def client(managed: Server) -> Iterator[InferenceServerClient]:
    """A client; each of its connections is of one worker."""
    found = InferenceServerClient(managed.url.removeprefix("http://"), network_timeout=120.0)
    yield found
    found.close()


def everywhere(server: Server, ask: Callable[[httpx.Client], Any]) -> list[Any]:
    """What is said over many connections, one after the other, without repetitions."""
    said = []
    for _ in range(OFTEN):
        with httpx.Client(base_url=server.url, timeout=120.0) as connection:
            if (answer := ask(connection)) not in said:
                said.append(answer)
    return said


def version_of(name: str) -> Callable[[httpx.Client], Any]:
    """Asks for a prediction: the version that answered, or the status and the error."""

    def ask(connection: httpx.Client) -> Any:
        tensor = {"name": "inputs", "shape": [1, 3], "datatype": "FP64", "data": TINY_ROWS[0]}
        answer = connection.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})
        told = answer.json()
        return told["model_version"] if answer.status_code == 200 else (answer.status_code, told["error"])

    return ask


def wait_for(server: Server, ask: Callable[[httpx.Client], Any], expected: Any) -> None:
    """Asks until nothing else is said; a worker that ends takes along connections that were not used yet."""
    said: list[Any] = []
    while said != [expected]:
        with suppress(httpx.TransportError):
            said = everywhere(server, ask)


def states(client: InferenceServerClient, name: str) -> dict[str, str]:
    """The state of each version of a model."""
    return {entry["version"]: entry["state"] for entry in client.get_model_repository_index() if entry["name"] == name}


def test_what_was_unloaded_is_gone_in_every_worker_at_once(managed: Server, client: InferenceServerClient) -> None:
    """When the order returns, no worker answers for the model, natively neither; the others go on; and back again."""
    client.unload_model("moving")
    assert everywhere(managed, version_of("moving")) == [
        (404, "moving was unloaded: it can be loaded again; there are: steady")
    ]
    assert everywhere(managed, lambda each: each.get("/v1/models/moving").status_code) == [404]
    assert everywhere(managed, version_of("steady")) == ["1"]
    assert not client.is_model_ready("moving")
    assert states(client, "moving") == {"1": "UNAVAILABLE"}
    client.load_model("moving")
    assert everywhere(managed, version_of("moving")) == ["1"]
    assert client.is_model_ready("moving")
    assert states(client, "moving") == {"1": "READY"}


def test_a_new_version_serves_in_every_worker_once_it_is_loaded(
    managed: Server, store: Path, client: InferenceServerClient
) -> None:
    """It is listed before, answers for itself and as the default after, and the old one can still be asked."""
    publish(store, "moving", "2")
    assert states(client, "moving") == {"1": "READY", "2": "UNAVAILABLE"}
    assert everywhere(managed, version_of("moving")) == ["1"]
    client.load_model("moving")
    assert everywhere(managed, version_of("moving")) == ["2"]
    tensor = InferInput("inputs", [1, 3], "FP64").set_data_from_numpy(np.array(TINY_ROWS[:1]))
    assert client.infer("moving", [tensor], model_version="1").get_response()["model_version"] == "1"
    assert client.get_model_metadata("moving")["versions"] == ["1", "2"]


def test_a_corrupt_version_is_refused_and_the_old_one_serves(
    managed: Server, store: Path, client: InferenceServerClient
) -> None:
    """The order raises the client's own exception with our message; in every worker all stays as it was."""
    corrupt(publish(store, "moving", "3"))
    with pytest.raises(InferenceServerException, match="not served, see the service's log: moving/3") as raised:
        client.load_model("moving")
    assert raised.value.status() == "503"
    assert everywhere(managed, version_of("moving")) == ["2"]
    assert managed.output.count("not served: moving/3") == 2
    shutil.rmtree(store / "moving" / "3")
    client.load_model("moving")
    assert states(client, "moving") == {"1": "READY", "2": "READY"}


def test_what_is_not_there_can_not_be_loaded(client: InferenceServerClient) -> None:
    """Unknown names, and configurations or files in place of the store's, raise with what was wrong."""
    for call, message in (
        (lambda: client.load_model("none"), "the store has no model of that name; there are: moving, steady"),
        (lambda: client.unload_model("none"), "there is no model of that name; there are: moving, steady"),
        (lambda: client.load_model("steady", config="{}"), "parameters: has 1 unknown name"),
        (lambda: client.load_model("steady", config="{}", files={"file:1/a": b"x"}), "parameters: has 2 unknown names"),
    ):
        with pytest.raises(InferenceServerException, match=message):
            call()


def test_a_worker_that_is_replaced_serves_what_was_agreed(managed: Server, client: InferenceServerClient) -> None:
    """A worker is killed after a model was unloaded: who takes its place does not bring the model back."""
    client.unload_model("moving")
    killed = workers_of(managed)[0]
    os.kill(killed, signal.SIGKILL)
    while killed in workers_of(managed) or len(workers_of(managed)) < 2:
        wait_for(managed, version_of("steady"), "1")
    assert everywhere(managed, version_of("moving")) == [
        (404, "moving was unloaded: it can be loaded again; there are: steady")
    ]
    with InferenceServerClient(managed.url.removeprefix("http://")) as again:
        again.load_model("moving")
    assert everywhere(managed, version_of("moving")) == ["2"]


def test_sighup_begins_anew_with_what_the_store_has(managed: Server, store: Path) -> None:
    """What was unloaded is served again, what was published too, and what the store lacks is served no more."""
    publish(store, "passing", "1")
    with InferenceServerClient(managed.url.removeprefix("http://")) as client:
        client.load_model("passing")
        client.unload_model("steady")
    shutil.rmtree(store / "passing")
    publish(store, "new", "1")
    managed._process.send_signal(signal.SIGHUP)
    for name, version in (("new", "1"), ("steady", "1"), ("moving", "2")):
        wait_for(managed, version_of(name), version)
    wait_for(managed, lambda each: version_of("passing")(each)[0], 404)
