"""How versions come and go while others are served: loaded aside, put in place at once, agreed with other processes."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from models.repository import Repository
from service.agreement import Alone
from service.catalogue import Catalogue
from service.errors import ModelNotReady, Unavailable, UnknownModel
from service.served import Loader, ServedModel
from tests.api.inside import running
from tests.api.stores import corrupt, publish
from tests.api.wire import TINY_ROWS, assert_problem

HANG = 60.0  # seconds after which a test that waits for a thread gives up


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one version of one model."""
    publish(tmp_path / "store", "model", "1")
    return tmp_path / "store"


def catalogue(
    store: Path, loading: Callable[[str, str], ServedModel | None] | None = None, **options: Any
) -> Catalogue:
    """A catalogue of what is in the store."""
    repository = Repository(store)
    return Catalogue(repository, loading or Loader(repository), **options)


def serving(found: Catalogue) -> dict[str, dict[str, bool]]:
    """Every model and version, and whether it is ready."""
    return {
        name: {version: bool(model) for version, model in versions.items()} for name, versions in found.models.items()
    }


async def test_a_version_that_appears_is_served_once_it_is_loaded(store: Path) -> None:
    """It becomes the default when it was asked for, not before; a new model likewise."""
    found = catalogue(store)
    publish(store, "model", "2")
    publish(store, "another", "1")
    assert found.resolve("model").manifest.version == "1"
    await found.load("model")
    assert found.resolve("model").manifest.version == "2"
    assert found.resolve("model", "1").manifest.version == "1"
    with pytest.raises(UnknownModel) as raised:
        found.resolve("another")
    assert raised.value.models == ["model"]
    await found.load("another")
    assert serving(found) == {"another": {"1": True}, "model": {"1": True, "2": True}}


async def test_what_is_served_already_stays_as_it_is(store: Path) -> None:
    """Loading anew neither reads nor verifies what is in service."""
    found = catalogue(store)
    before = found.resolve("model")
    publish(store, "model", "2")
    await found.load("model")
    assert found.resolve("model", "1") is before


async def test_a_corrupt_version_is_told_and_the_others_serve(store: Path) -> None:
    """The order fails by name, the old version stays the default, and after a repair the same order succeeds."""
    found = catalogue(store)
    folder = publish(store, "model", "2")
    whole = (folder / "weights.safetensors").read_bytes()
    corrupt(folder)
    with pytest.raises(ModelNotReady, match="model/2"):
        await found.load("model")
    assert found.resolve("model").manifest.version == "1"
    assert serving(found) == {"model": {"1": True, "2": False}}
    assert not found.is_ready("model", "2")
    (folder / "weights.safetensors").write_bytes(whole)
    await found.load("model")
    assert found.resolve("model").manifest.version == "2"


async def test_another_order_does_not_try_again_what_failed(store: Path) -> None:
    """Only who asks for a model has its corrupt versions read once more."""
    corrupt(publish(store, "broken", "1"))
    load, tried = Loader(Repository(store)), []

    def noted(name: str, version: str) -> ServedModel | None:
        tried.append(name)
        return load(name, version)

    found = catalogue(store, noted)
    assert tried == ["broken", "model"]
    await found.unload("model")
    await found.load("model")
    assert tried == ["broken", "model", "model"]
    with pytest.raises(ModelNotReady):
        await found.load("broken")
    assert tried == ["broken", "model", "model", "broken"]


async def test_an_unloaded_model_is_gone_until_it_is_loaded(store: Path) -> None:
    """Nobody finds it, its memory is freed, and unloading it again changes nothing."""
    found = catalogue(store)
    network = weakref.ref(found.resolve("model").network)
    await found.unload("model")
    await found.unload("model")
    gc.collect()
    assert network() is None
    for version in (None, "1"):
        with pytest.raises(UnknownModel, match="model was unloaded: it can be loaded again"):
            found.resolve("model", version)
    await found.load("model")
    assert found.resolve("model").manifest.version == "1"


async def test_a_version_that_left_the_store_leaves_service_when_asked(store: Path) -> None:
    """What was in memory serves on until then, and is listed although the store has it no more."""
    publish(store, "model", "2")
    found = catalogue(store)
    shutil.rmtree(store / "model" / "2")
    assert [(entry.version, entry.ready) for entry in await found.index()] == [("2", True), ("1", True)]
    await found.load("model")
    assert serving(found) == {"model": {"1": True}}


@pytest.mark.parametrize(
    "name", ["none", "..", "../store/model", "/etc", "", "a" * 65, ".hidden", "model/1", "model\0"]
)
async def test_no_other_name_leads_anywhere(store: Path, name: str) -> None:
    """Only names of models in the store are loaded, only those in service unloaded."""
    found = catalogue(store)
    with pytest.raises(UnknownModel):
        await found.load(name)
    with pytest.raises(UnknownModel):
        await found.unload(name)
    assert serving(found) == {"model": {"1": True}}


async def test_the_event_loop_goes_on_while_a_version_is_loaded(store: Path) -> None:
    """Loading and verification happen on another thread; what was served before is served meanwhile."""
    load, begun, go = Loader(Repository(store)), threading.Event(), threading.Event()

    def held(name: str, version: str) -> ServedModel | None:
        if version == "2":
            begun.set()
            assert go.wait(HANG)
        return load(name, version)

    found = catalogue(store, held)
    publish(store, "model", "2")
    loading = asyncio.create_task(found.load("model"))
    assert await asyncio.to_thread(begun.wait, HANG)
    assert found.resolve("model").manifest.version == "1"
    go.set()
    await loading
    assert found.resolve("model").manifest.version == "2"


async def test_the_index_tells_every_state(store: Path) -> None:
    """Ready, corrupt, not loaded yet, unloaded."""
    corrupt(publish(store, "model", "2"))
    found = catalogue(store)
    publish(store, "model", "10")
    assert [tuple(entry) for entry in await found.index()] == [
        ("model", "1", True, ""),
        ("model", "2", False, "did not pass verification"),
        ("model", "10", False, "not loaded"),
    ]
    await found.unload("model")
    assert {entry.reason for entry in await found.index()} == {"not loaded"}


@asynccontextmanager
async def following(found: Catalogue) -> AsyncIterator[None]:
    """The catalogue follows what others agree on."""
    task = asyncio.create_task(found.follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Noted(Alone):
    """An agreement that notes what it is told, and says that all have followed only where the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[int] = []
        self.asked, self.complete, self.left = 0, True, False

    def reach(self, generation: int) -> None:
        """See `agreement.Agreement`."""
        self.reached.append(generation)

    def all_reached(self, generation: int) -> bool:  # noqa: ARG002 - it is all the same here
        """See `agreement.Agreement`."""
        self.asked += 1
        return self.complete

    def leave(self) -> None:
        """See `agreement.Agreement`."""
        self.left = True


async def until(condition: Callable[[], bool]) -> None:
    """Lets others go on until this is so."""
    async with asyncio.timeout(HANG):
        for _ in iter(condition, True):  # noqa: FBT003 - what it waits for
            await asyncio.sleep(0)


async def test_it_follows_what_others_agreed_on(store: Path) -> None:
    """A change of the list by somebody else is served without being asked for; with the end of that, it is left."""
    agreement = Noted()
    found = catalogue(store, agreement=agreement)
    publish(store, "model", "2")
    async with following(found):
        agreement.change({"model": ("2",)})
        await until(lambda: agreement.reached == [1, 2])
        assert serving(found) == {"model": {"2": True}}
        assert not agreement.left
    assert agreement.left


async def test_a_failure_to_follow_is_told_and_tried_again(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong for a moment ends neither service nor following."""
    agreement, whole = Noted(), Loader(Repository(store))

    def failing(name: str, version: str) -> ServedModel | None:
        if version == "2" and "still trying" not in caplog.text:
            raise MemoryError
        return whole(name, version)

    found = catalogue(store, failing, agreement=agreement)
    publish(store, "model", "2")
    async with following(found):
        agreement.change({"model": ("1", "2")})
        await until(lambda: serving(found) == {"model": {"1": True, "2": True}})
    assert "still trying" in caplog.text


async def test_an_order_waits_until_all_have_followed(store: Path) -> None:
    """It has been carried out here long before, and returns when nobody is behind any more."""
    agreement = Noted()
    found = catalogue(store, agreement=agreement)
    agreement.complete = False
    unloading = asyncio.create_task(found.unload("model"))
    await until(lambda: agreement.asked > 2)
    assert serving(found) == {"model": {}}
    assert not unloading.done()
    agreement.complete = True
    await unloading


async def test_an_order_that_somebody_does_not_follow_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its patience it says that not all have followed yet."""
    monkeypatch.setattr("service.catalogue.PATIENCE_SECONDS", -1.0)
    agreement = Noted()
    found = catalogue(store, agreement=agreement)
    agreement.complete = False
    with pytest.raises(Unavailable, match="not every worker process has followed yet"):
        await found.unload("model")


async def test_a_request_in_flight_finishes_on_the_version_it_began_with(store: Path) -> None:
    """A model that is unloaded while a request waits for its turn answers that request, and no later one."""
    async with running(store=store, workers=1) as (app, client):
        inference, arrived, go = app.state.inference, asyncio.Event(), asyncio.Event()
        whole = inference._batcher.run

        async def held(*asked: Any) -> Any:
            arrived.set()
            await go.wait()
            return await whole(*asked)

        inference._batcher.run = held
        path, body = "/v1/models/model/predict", {"inputs": TINY_ROWS}
        begun = asyncio.create_task(client.post(path, json=body))
        await arrived.wait()
        assert (await client.post("/v2/repository/models/model/unload")).status_code == 200
        assert_problem(await client.post(path, json=body), 404)
        go.set()
        answer = await begun
        assert answer.status_code == 200
        assert answer.json()["model"]["version"] == "1"


async def test_models_are_managed_from_this_machine_alone(store: Path) -> None:
    """Where others could reach the service, and no keys tell who they are, nobody loads or unloads; all may list."""
    async with running(store=store, workers=1, host="0.0.0.0") as (_, client):
        for verb in ("load", "unload"):
            answer = await client.post(f"/v2/repository/models/model/{verb}")
            assert (answer.status_code, list(answer.json())) == (403, ["error"])
        assert (await client.post("/v2/repository/index")).json()[0]["state"] == "READY"
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        async with running(store=store, workers=1, host=host) as (_, client):
            assert (await client.post("/v2/repository/models/model/load")).status_code == 200


async def test_the_native_list_knows_what_was_unloaded(store: Path) -> None:
    """A model without versions in service is listed as not ready."""
    async with running(store=store, workers=1) as (_, client):
        await client.post("/v2/repository/models/model/unload")
        assert (await client.get("/v1/models")).json() == {
            "models": [{"name": "model", "version": None, "versions": [], "task": None, "digest": None, "ready": False}]
        }
        assert_problem(await client.get("/v1/models/model"), 404)
        assert (await client.get("/v2/models/model/ready")).status_code == 404
