"""One caller floods, another asks once: in line, on the event loop and on the engine threads, and over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from models.repository import Repository
from service import batching
from service.batching import COMPANY_SECONDS, Batcher
from service.catalogue import Catalogue
from service.errors import MemoryShort, QueueFull, ShareExceeded
from service.inference import Inference
from service.served import Loader
from tests.access.keys import bearer, make
from tests.api.inside import running
from tests.api.test_company import Small
from tests.api.test_queue import BODY, HANG, PATH, HandClock, Work, held_queue
from tests.api.wire import TINY_ROWS, assert_problem

# Large enough not to be read where that would come to nothing.
LARGE = {"inputs": TINY_ROWS * 200}


class Noted(Work):
    """Work that notes in a common list what ran, and takes a second for each piece by the queue's clock."""

    def __init__(self, order: list[str], name: str, pieces: int) -> None:
        super().__init__(*[[name]] * pieces)
        self.done = order


async def test_on_the_engine_threads_a_flood_is_one_turn_among_two() -> None:
    """Of fifty long requests of one caller, each with ten pieces, another's runs after one piece."""
    order: list[str] = []
    async with held_queue() as queue:
        batcher = queue.batcher
        flood = [asyncio.create_task(batcher.run(Noted(order, "flood", 10), HANG, caller="flooder")) for _ in range(50)]
        await asyncio.sleep(0)
        once = asyncio.create_task(batcher.run(Noted(order, "once", 1), HANG, caller="other"))
        await asyncio.sleep(0)
        queue.holder.go.set()
        await once
        await asyncio.gather(*flood)
    assert "once" in order[:2]
    assert len(order) == 501


async def test_on_the_event_loop_too() -> None:
    """Of small requests that wait in hundreds, another caller's is in the very next company."""
    batcher = Batcher(threads=1, max_queue=1000, clock=HandClock())
    flood = [Small(str(number), seconds=COMPANY_SECONDS / 4) for number in range(400)]
    once = Small("once", seconds=COMPANY_SECONDS / 4)
    tasks = [asyncio.create_task(batcher.run(job, HANG, caller="flooder")) for job in flood]
    tasks.append(asyncio.create_task(batcher.run(once, HANG, caller="other")))
    await asyncio.gather(*tasks)
    assert once.evaluations == [["0", "once", "1", "2"]]
    assert [job.evaluations[0][0] for job in flood[3:7]] == ["3"] * 4  # its own keep their order
    await asyncio.to_thread(batcher.close)


async def test_a_caller_who_has_filled_the_queue_is_refused_and_another_is_not() -> None:
    """With as many requests waiting as may, one more of the flooder's is refused, and one of another's admitted."""
    async with held_queue(max_queue=4) as queue:
        flood = [asyncio.create_task(queue.batcher.run(Work(), HANG, caller="flooder")) for _ in range(3)]
        await asyncio.sleep(0)
        once = asyncio.create_task(queue.batcher.run(Work(), HANG, caller="other"))
        await asyncio.sleep(0)
        with pytest.raises(ShareExceeded):
            await queue.batcher.run(Work(), HANG, caller="flooder")
        queue.holder.go.set()
        await asyncio.gather(once, *flood)
        assert (queue.batcher.computed, queue.batcher.refused) == (5, 1)


async def test_over_http_a_key_that_floods_is_429_and_another_is_served(tiny_store: Path, tmp_path: Path) -> None:
    """Keys without rates: the flooder fills the queue, the other asks, and is served next."""
    made = make(file := tmp_path / "keys.jsonl", flooder="infer", other="infer")
    flooder, other = bearer(made["flooder"]), bearer(made["other"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "SMALL_SECONDS", -1.0)  # everything goes to the thread that is held
        async with running(store=tiny_store, keys_file=str(file)) as (app, client), held_queue(max_queue=8) as queue:
            repository, batcher = Repository(tiny_store), queue.batcher
            app.state.inference = Inference(Catalogue(repository, Loader(repository)), batcher)
            arrived, whole = asyncio.Semaphore(0), batcher.run

            async def noted(*asked: object) -> object:
                arrived.release()
                return await whole(*asked)  # type: ignore[arg-type]

            app.state.inference._batcher.run = noted
            flood = [asyncio.create_task(client.post(PATH, json=BODY, headers=flooder)) for _ in range(7)]
            for _ in flood:
                await arrived.acquire()
            ended: list[str] = []
            for number, task in enumerate(flood):
                task.add_done_callback(lambda _, number=number: ended.append(f"flood {number}"))
            served = asyncio.create_task(client.post(PATH, json=BODY, headers=other))
            served.add_done_callback(lambda _: ended.append("other"))
            await arrived.acquire()
            for body in (BODY, LARGE):  # the large one is not even read
                refused = await client.post(PATH, json=body, headers=flooder)
                assert assert_problem(refused, 429)["type"] == "urn:penumbra:problem:share-exceeded"
                assert int(refused.headers["retry-after"]) >= 1
            assert (await client.get("/health/ready")).status_code == 200
            queue.holder.go.set()
            assert (await served).status_code == 200
            assert {answer.status_code for answer in await asyncio.gather(*flood)} == {200}
            assert ended.index("other") <= 2
            assert batcher.refused == 2


async def test_what_comes_to_nothing_is_not_read(tiny_store: Path) -> None:
    """With a full queue a large body is refused unread, however wrong it is; a small one is read."""
    async with running(store=tiny_store) as (app, client), held_queue(max_queue=1) as queue:
        app.state.inference._batcher = queue.batcher
        json = {"Content-Type": "application/json"}
        assert (await client.post(PATH, content=b"x" * 100, headers=json)).status_code == 400
        assert_problem(await client.post(PATH, content=b"x" * 5000, headers=json), 503)

        async def chunks() -> object:
            yield b"x" * 3000
            yield b"x" * 3000
            pytest.fail("what can't be answered was read to its end")

        assert_problem(await client.post(PATH, content=chunks(), headers=json), 503)
        # Whoever may have the answer already is heard.
        tagged = await client.post(PATH, content=b"x" * 5000, headers={**json, "If-None-Match": '"a"'})
        assert tagged.status_code == 400


async def test_while_memory_is_short_nothing_large_is_taken(tiny_store: Path) -> None:
    """Neither a large body nor much work: 503, and when to come again. Small requests are answered, readiness stays."""
    async with running(store=tiny_store, memory_share=1e-9) as (_, client):
        refused = await client.post(PATH, json=LARGE)
        assert assert_problem(refused, 503)["type"] == "urn:penumbra:problem:memory-short"
        assert int(refused.headers["retry-after"]) >= 1
        much = {**BODY, "samples": 50_000, "seed": 1}
        assert_problem(await client.post("/v1/models/noisy/sample", json=much), 503)
        assert (await client.post(PATH, json=BODY)).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        assert 'penumbra_shed_total{reason="memory"} 2.0' in (await client.get("/metrics")).text


async def test_what_has_begun_goes_on_when_memory_is_short() -> None:
    """A stream that was taken is not cut off."""
    batcher = Batcher(threads=1, max_queue=9, memory_short=lambda: True)
    await batcher.run(Work(), HANG, begun=True)
    with pytest.raises(MemoryShort):
        await batcher.run(Work(), HANG)
    with pytest.raises(MemoryShort):
        batcher.foresee("")
    assert (batcher.computed, batcher.refused) == (1, 2)
    await asyncio.to_thread(batcher.close)


async def test_a_full_queue_is_foreseen() -> None:
    """By whoever would be refused."""
    async with held_queue(max_queue=1) as queue:
        with pytest.raises(QueueFull):
            queue.batcher.foresee("")
        queue.batcher.foresee("another")
