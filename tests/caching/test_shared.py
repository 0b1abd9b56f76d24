"""Answers in a real Redis: two services share them; slow, damaged or gone it costs time, never an answer."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.caching import build, shared
from service.caching.memory import Written
from service.caching.shared import Shared, packed, unpacked
from tests.api.live import Server
from tests.api.test_queue import HandClock
from tests.redis import PASSWORD, RedisServer, redis_server
from tests.telemetry.scrape import parsed, value

PATH = "/v1/models/digits/sample"
KEY = b'"canary"'
LONG = 1.0  # seconds of computing, which are worth a look
# A request that takes some milliseconds to compute: a cheaper one is never looked for.
DEAR: dict[str, Any] = {"inputs": [[float(row)] * 64 for row in range(16)], "samples": 200}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of one's own."""
    with redis_server(tmp_path) as running:
        yield running


@given(st.binary(max_size=50), st.integers(0, 40) | st.none(), st.data())
def test_what_is_damaged_is_nothing(body: bytes, text: int | None, data: st.DataObject) -> None:
    """A value is read as it was written; with any byte changed, cut off, or under another key it is none."""
    value = packed(KEY, Written(body, text))
    assert unpacked(KEY, value) == Written(body, text)
    assert unpacked(b'"other"', value) is None
    assert unpacked(KEY, value[: data.draw(st.integers(0, len(value) - 1))]) is None
    place = data.draw(st.integers(0, len(value) - 1))
    changed = bytearray(value)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert unpacked(KEY, bytes(changed)) is None


def test_a_build_has_a_name() -> None:
    """The same each time, and of nothing that could not be part of a key."""
    assert build.name() == build.name()
    assert len(bytes.fromhex(build.name())) == 16


async def test_what_one_puts_another_gets(redis: RedisServer) -> None:
    """Bytes and their length; what was never put, or is cheaper than asking, is not there."""
    one, other = Shared(redis.url), Shared(redis.url)
    one.put(KEY, Written(b"\x00body\xff", 3), LONG)
    one.put(b'"cheap"', Written(b"cheap"), shared.WORTH_SECONDS / 2)
    await one.close()
    assert await other.get(KEY, LONG) == Written(b"\x00body\xff", 3)
    assert await other.get(KEY, shared.WORTH_SECONDS / 2) is None
    assert await other.get(b'"cheap"', LONG) is None
    assert other.failures == 0
    await other.close()
    assert b":1\r\n" in redis.ask("DBSIZE")


async def test_a_damaged_value_is_a_miss(redis: RedisServer) -> None:
    """Whatever has happened to it, it is not given to anybody; nor is that a failure."""
    one = Shared(redis.url)
    one.put(KEY, Written(b"body"), LONG)
    await asyncio.gather(*one._putting)
    name = (one._prefix + KEY).decode()
    assert redis.ask("SETRANGE", name, "25", "X").endswith(b"28\r\n")
    assert await one.get(KEY, LONG) is None
    assert one.failures == 0
    await one.close()


async def test_redis_that_fails_is_left_alone_for_a_while(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """After a failure nobody asks until the rest is over; it is told once, and once when it is over."""
    caplog.set_level(logging.INFO, "service")
    clock = HandClock()
    one = Shared(redis.url, clock)
    redis.kill()
    for _ in range(5):
        assert await one.get(KEY, LONG) is None
        one.put(KEY, Written(b"body"), LONG)
    assert one.failures == 1
    clock.now += shared.REST_SECONDS
    assert await one.get(KEY, LONG) is None
    assert one.failures == 2
    redis.start()
    assert await one.get(KEY, LONG) is None
    assert one.failures == 2
    clock.now += shared.REST_SECONDS
    assert await one.get(KEY, LONG) is None  # it is asked, and has forgotten all
    one.put(KEY, Written(b"body"), LONG)
    await asyncio.gather(*one._putting)
    assert await one.get(KEY, LONG) == Written(b"body")
    await one.close()
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "answers are not shared, since Redis at 127.0.0.1",
        "answers are shared again",
    ]
    assert PASSWORD not in caplog.text


async def test_a_wrong_password_is_told_and_never_shown(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """The reason is Redis' own, the password nobody's business."""
    one = Shared(redis.url.replace(PASSWORD, "canary-wrong"))
    assert await one.get(KEY, LONG) is None
    await one.close()
    assert "invalid username-password pair" in caplog.text
    assert "canary-wrong" not in caplog.text


async def test_redis_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and then is silent is a failure, after the patience there is for it."""
    monkeypatch.setattr(shared, "PATIENCE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = Shared(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        assert await one.get(KEY, LONG) is None
        assert one.failures == 1
        await one.close()


def test_two_services_share_answers(start_server: Callable[..., Server], redis: RedisServer) -> None:
    """What one has computed the other does not compute, in either protocol; cheap ones stay where they are."""
    one, other = (start_server(redis_url=redis.url) for _ in range(2))
    tensor = {"name": "inputs", "shape": [16, 64], "datatype": "FP64", "data": DEAR["inputs"]}
    for path, body in (
        (PATH, {**DEAR, "seed": 1}),
        ("/v2/models/digits/infer", {"inputs": [tensor], "parameters": {"seed": 1, "binary_data_output": True}}),
    ):
        headers = {"Content-Type": "application/json"}
        first = one.client.post(path, json=body, headers=headers)
        assert first.headers["penumbra-cache"] == "miss"
        # It is put there beside the answer.
        for _ in range(50_000):
            if int(redis.ask("DBSIZE").rpartition(b":")[2]) > (path != PATH):
                break
        second = other.client.post(path, json=body, headers=headers)
        assert (second.headers["penumbra-cache"], second.content) == ("hit", first.content)
        assert second.headers["etag"] == first.headers["etag"]
        assert other.client.post(path, json=body, headers=headers).content == first.content
    cheap = {"inputs": DEAR["inputs"][:1], "samples": 2, "seed": 1}
    assert [each.client.post(PATH, json=cheap).headers["penumbra-cache"] for each in (one, other)] == ["miss"] * 2
    told = parsed(other.client.get("/metrics").text)
    assert value(told, "penumbra_answer_cache_requests_total", outcome="shared") == 2
    assert value(told, "penumbra_answer_cache_requests_total", outcome="hit") == 2
    assert value(told, "penumbra_redis_failures_total") == 0


def test_redis_killed_and_back_under_load(start_server: Callable[..., Server], redis: RedisServer) -> None:
    """No request fails, and all have the bytes that they have without it."""
    seeds = range(40)
    plain = start_server(answer_cache_bytes=0)
    expected = {seed: plain.client.post(PATH, json={**DEAR, "seed": seed}).content for seed in seeds}
    server = start_server(redis_url=redis.url, answer_cache_bytes=1)  # nothing is kept here
    wrong: list[object] = []
    rounds, done = threading.Semaphore(0), threading.Event()

    def ask(first: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not done.is_set():
                for seed in seeds[first::4]:
                    answer = client.post(PATH, json={**DEAR, "seed": seed})
                    if answer.content != expected[seed]:
                        wrong.append(answer)
                rounds.release()

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    try:
        for change in (lambda: None, redis.kill, redis.start):
            change()
            for _ in range(8):
                assert rounds.acquire(timeout=60)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    told = parsed(server.client.get("/metrics").text)
    assert value(told, "penumbra_answer_cache_requests_total", outcome="shared") > 0
    assert value(told, "penumbra_redis_failures_total") > 0
    assert PASSWORD not in server.output
    assert server.output.count("answers are not shared") == 1
