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
from tests.service.sharers import also

DAMAGED = "weights.safetensors is not the file that the manifest was made for"
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
    assert raised.value.names == ["model"]
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
    assert [(entry.version, entry.ready) for entry in await found.index()] == [("1", True), ("2", True)]
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
        ("model", "2", False, f"did not pass verification: {DAMAGED}"),
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
        agreement.change(also(model=("2",)))
        await until(lambda: agreement.reached == [1, 2])
        assert serving(found) == {"model": {"2": True}}
        assert not agreement.left
    assert agreement.left


async def test_a_failure_to_follow_is_told_and_tried_again(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong for a moment ends neither service nor following."""
    monkeypatch.setattr("service.looking.FIRST_PAUSE_SECONDS", 0.0)
    agreement, whole = Noted(), Loader(Repository(store))

    def failing(name: str, version: str) -> ServedModel | None:
        if version == "2" and "still trying" not in caplog.text:
            raise MemoryError
        return whole(name, version)

    found = catalogue(store, failing, agreement=agreement)
    publish(store, "model", "2")
    async with following(found):
        agreement.change(also(model=("1", "2")))
        await until(lambda: serving(found) == {"model": {"1": True, "2": True}})
    assert "still trying" in caplog.text


async def test_what_can_not_be_loaded_is_tried_less_and_less_often(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time takes seconds of a core; and it is told once."""
    slept: list[float] = []
    turn = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await turn(0)

    def failing(name: str, version: str) -> ServedModel | None:
        if version == "2":
            raise MemoryError
        return whole(name, version)

    agreement, whole = Noted(), Loader(Repository(store))
    found = catalogue(store, failing, agreement=agreement)
    agreement.change(also(model=("1", "2")))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    async with following(found):
        await until(lambda: 32.0 in slept)
    assert [seconds for seconds in slept if seconds][1:] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert caplog.text.count("loading what is to be served failed: MemoryError; still trying") == 1


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


@asynccontextmanager
async def watching(found: Catalogue) -> AsyncIterator[None]:
    """The catalogue follows, and looks into the store as often as it can."""
    tasks = asyncio.create_task(found.follow()), asyncio.create_task(found.watch(0))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            assert task.cancelled(), task.exception()


async def until_looked(found: Catalogue) -> None:
    """Waits until the store was looked into once more, from beginning to end, and what came of it is served."""
    looks = found.looks.ok
    await until(lambda: found.looks.ok >= looks + 2 and found._agreement.generation == found._served.generation)


async def test_what_appears_in_the_store_is_served(store: Path) -> None:
    """A version of a known model, and a model that is new; nobody has to ask for them."""
    found = catalogue(store)
    async with watching(found):
        publish(store, "model", "2")
        publish(store, "another", "1")
        await until(lambda: serving(found) == {"another": {"1": True}, "model": {"1": True, "2": True}})
    assert found.resolve("model").manifest.version == "2"


async def test_what_is_damaged_is_told_once_and_served_once_it_is_whole(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is read again when its files change, as those of a plain copy do, and not before."""
    found = catalogue(store)
    async with watching(found):
        shutil.copytree(store / "model" / "1", store / "model" / "2")
        await until(lambda: serving(found)["model"].get("2") is False)
        assert found.offers["model"].failures["2"].reason == "the manifest is that of model/1"
        await until_looked(found)
        told = caplog.text.count("not served: model/2")  # more than once where it was seen half copied
        publish(store, "model", "3")
        await until(lambda: serving(found)["model"].get("3", False))
        await until_looked(found)
        assert caplog.text.count("not served: model/2") == told
        manifest = (store / "model" / "2" / "manifest.json").read_text().replace('"version": "1"', '"version": "2"')
        (store / "model" / "2" / "manifest.json").write_text(manifest)
        await until(lambda: serving(found) == {"model": {"1": True, "2": True, "3": True}})


async def test_what_was_unloaded_stays_out_of_service(store: Path) -> None:
    """Watching does not bring it back, a newer version of it neither, until somebody loads it."""
    found = catalogue(store)
    async with watching(found):
        await found.unload("model")
        publish(store, "model", "2")
        await until_looked(found)
        assert serving(found) == {"model": {}}
        await found.load("model")
        assert serving(found) == {"model": {"1": True, "2": True}}


async def test_a_store_that_is_gone_takes_nothing_out_of_service(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty directory, as of a volume that is not mounted, or one that can't be read: what is served stays."""
    caplog.set_level("INFO")
    found = catalogue(store)
    async with watching(found):
        aside = store.with_name("aside")
        await asyncio.to_thread(store.rename, aside)
        await until_looked(found)
        assert serving(found) == {"model": {"1": True}}
        await asyncio.to_thread(store.mkdir)
        await until_looked(found)
        assert serving(found) == {"model": {"1": True}}
        with monkeypatch.context() as broken:
            broken.setattr(Path, "iterdir", unreadable)
            await until(lambda: found.looks.failed > 1)
            with pytest.raises(Unavailable, match="the store can't be read"):
                await found.load("model")
        assert caplog.text.count("what is served stays") == 1
        await asyncio.to_thread(store.rmdir)
        await asyncio.to_thread(aside.rename, store)
        publish(store, "model", "2")
        await until(lambda: serving(found) == {"model": {"1": True, "2": True}})
    assert "looking for new versions works again" in caplog.text


def unreadable(_: Path) -> Any:
    """What a directory's contents are when the disk fails."""
    raise OSError(5, "Input/output error")


async def test_a_version_that_left_the_store_leaves_with_the_next_look(store: Path) -> None:
    """While others of its model are left; the last one stays in any case."""
    publish(store, "model", "2")
    found = catalogue(store)
    async with watching(found):
        shutil.rmtree(store / "model" / "2")
        await until(lambda: serving(found) == {"model": {"1": True}})
        shutil.rmtree(store / "model" / "1")
        await until_looked(found)
        assert serving(found) == {"model": {"1": True}}


async def test_a_pinned_version_is_the_default(store: Path) -> None:
    """To pin is to roll back, and as quickly undone; the others can still be asked by name."""
    publish(store, "model", "2")
    found, repository = catalogue(store), Repository(store)
    async with watching(found):
        repository.pin("model", "1")
        await until(lambda: found.resolve("model").manifest.version == "1")
        publish(store, "model", "3")
        await until(lambda: serving(found)["model"].get("3", False))
        assert found.resolve("model").manifest.version == "1"
        assert found.resolve("model", "3").manifest.version == "3"
        repository.pin("model", None)
        await until(lambda: found.resolve("model").manifest.version == "3")


@pytest.mark.parametrize("text", ["7", "2"])
async def test_a_pin_on_what_is_not_served_is_told(store: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A version that is not there, or did not pass: the newest that is ready answers, and the log says so once."""
    corrupt(publish(store, "model", "2"))
    (store / "model" / "pinned").write_text(text)
    found = catalogue(store)
    assert found.resolve("model").manifest.version == "1"
    assert found.offers["model"].pinned == text
    with pytest.raises(ModelNotReady, match=r"model/2$"):
        await found.load("model")
    assert caplog.text.count(f"model is pinned to version {text}, which is not served: the newest is") == 1


async def test_only_the_newest_are_kept(store: Path) -> None:
    """So many that pass, and the pinned one; older ones leave, and their memory is freed."""
    found = catalogue(store, keep=2)
    network = weakref.ref(found.resolve("model").network)
    async with watching(found):
        for version in ("2", "3"):
            publish(store, "model", version)
            await until(lambda version=version: version in found.models["model"])
        assert serving(found) == {"model": {"2": True, "3": True}}
        gc.collect()
        assert network() is None
        with pytest.raises(UnknownModel, match="no such version") as raised:
            found.resolve("model", "1")
        assert raised.value.names == ("2", "3")
        Repository(store).pin("model", "1")
        await until(lambda: serving(found) == {"model": {"1": True, "2": True, "3": True}})
        assert found.resolve("model").manifest.version == "1"
        for version in ("4", "5"):
            folder = store / "model" / version
            shutil.copytree(store / "model" / "3", folder)  # which is not what its manifest says
        await until(lambda: "5" in found.models["model"])
        assert serving(found) == {"model": {"1": True, "2": True, "3": True, "4": False, "5": False}}


async def test_a_version_that_brings_about_a_bug_does_not_serve(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with one version, it is told with its stack, and the others are served."""
    whole = Loader(Repository(store))

    def failing(name: str, version: str) -> ServedModel:
        if version == "2":
            raise RuntimeError("canary")
        return whole(name, version)

    publish(store, "model", "2")
    found = catalogue(store, failing)
    assert serving(found) == {"model": {"1": True, "2": False}}
    assert found.offers["model"].failures["2"].reason == "an internal error; see the service's log"
    assert "RuntimeError: canary" in caplog.text


async def test_a_store_that_can_not_be_read_has_no_index_for_now(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, as an order to load."""
    async with running(store=store, workers=1, watch_seconds=0) as (_, client):
        with monkeypatch.context() as broken:
            broken.setattr(Path, "iterdir", unreadable)
            for path in ("index", "models/model/load"):
                answer = await client.post(f"/v2/repository/{path}")
                assert answer.status_code == 503
                assert answer.json()["error"].startswith("the store can't be read: ")
        assert (await client.post("/v2/repository/index")).json()[0]["state"] == "READY"


async def test_who_does_not_lead_does_not_look(store: Path) -> None:
    """Of several processes one looks into the store."""
    agreement = Noted()
    agreement.lead = lambda: False  # type: ignore[method-assign]
    found = catalogue(store, agreement=agreement)
    async with watching(found):
        publish(store, "model", "2")
        for _ in range(50):
            await asyncio.sleep(0)
        assert found.looks == (0, 0)


async def test_the_native_list_tells_pins_and_failures(store: Path) -> None:
    """Only where there are any: else an entry has the contract's fields alone."""
    corrupt(publish(store, "model", "2"))
    Repository(store).pin("model", "1")
    publish(store, "plain", "1")
    async with running(store=store, workers=1) as (_, client):
        pinned, plain = (await client.get("/v1/models")).json()["models"]
        assert pinned["version"] == pinned["pinned"] == "1"
        assert pinned["failed"] == [{"version": "2", "reason": DAMAGED}]
        assert list(plain) == ["name", "version", "versions", "task", "digest", "ready"]
        assert (await client.post("/v2/repository/models/plain/load")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'penumbra_store_looks_total{outcome="ok"} 1.0' in metrics
        assert 'penumbra_store_looks_total{outcome="failed"} 0.0' in metrics
        assert 'penumbra_model_info{digest="",model="model",ready="false",version="2"} 1.0' in metrics
