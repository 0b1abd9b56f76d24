"""Versions published one after the other while clients ask, some of them damaged: nobody notices but by the digest."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from models.repository import Repository
from tests.api.live import Server
from tests.api.stores import corrupt, publish
from tests.api.wire import TINY_ROWS

PUBLICATIONS, CLIENTS = 20, 16
KEPT = 3
BODY = {"inputs": TINY_ROWS, "samples": 20, "seed": 7}


class Seen(NamedTuple):
    """An answer: when it was asked for and when it came, from which contents, and its bytes."""

    asked: float
    came: float
    digest: str
    content: bytes


class Current(NamedTuple):
    """A version: when it could be served at the earliest."""

    digest: str
    since: float


def ask_on(url: str, over: threading.Event) -> list[Seen]:
    """Asks again and again, over one connection while that lasts; anything but an answer raises."""
    seen = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.is_set():
            asked = time.monotonic()
            answer = client.post("/v1/models/model/sample", json=BODY)
            assert answer.status_code == 200, answer.text
            seen.append(Seen(asked, time.monotonic(), answer.json()["model"]["digest"], answer.content))
    return seen


def publish_on(server: Server, store: Path, aside: Path, publications: int, asking: list[Future[list[Seen]]]) -> Log:
    """Publishes versions, every fifth of them damaged; each is waited for, as the watching service has it."""
    log = Log([Current(Repository(store).load("model").manifest.digest, 0.0)], [])
    for number in range(2, publications + 2):
        version, damaged = str(number), number % 5 == 0
        folder = publish(aside, "model", version)
        if damaged:
            corrupt(folder)
        else:
            log.current.append(Current(Repository(aside).load("model", version).manifest.digest, time.monotonic()))
        folder.rename(store / "model" / version)
        while not knows(server, version, damaged=damaged):
            if any(asked.done() for asked in asking):  # somebody was let down
                return log
        if not damaged:
            # The order returns when every worker has it; damaged ones before may be complained about.
            assert server.client.post("/v2/repository/models/model/load").status_code in {200, 503}
            log.everywhere.append(time.monotonic())
    return log


class Log(NamedTuple):
    """Good versions in their order, and when each but the first was served everywhere."""

    current: list[Current]
    everywhere: list[float]


def knows(server: Server, version: str, *, damaged: bool) -> bool:
    """Whether a worker serves this version by default, or says that it is damaged."""
    (entry,) = server.client.get("/v1/models", headers={"Connection": "close"}).json()["models"]
    return (
        version in {failed["version"] for failed in entry.get("failed", ())} if damaged else entry["version"] == version
    )


@pytest.mark.slow
@pytest.mark.parametrize("publications", [PUBLICATIONS])
def test_publications_under_load(start_server: Callable[..., Server], tmp_path: Path, publications: int) -> None:
    """No request fails; each is answered from contents that were current meanwhile; same seed, same bytes."""
    store, aside = tmp_path / "store", tmp_path / "aside"
    publish(store, "model", "1")
    server = start_server(store=store, workers=2, threads=1, watch_seconds=0.05, keep_versions=KEPT)
    over = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask_on, server.url, over) for _ in range(CLIENTS)]
        try:
            log = publish_on(server, store, aside, publications, asking)
        finally:
            over.set()
        seen = [each for asked in asking for each in asked.result()]
    places = {current.digest: place for place, current in enumerate(log.current)}
    assert len(places) == len(log.current) == publications + 1 - (publications + 1) // 5
    answers = defaultdict(set)
    for each in seen:
        place = places[each.digest]
        assert log.current[place].since <= each.came, "answered before it was published"
        assert place >= len(log.everywhere) or each.asked <= log.everywhere[place], (
            "asked after its successor was there"
        )
        answers[each.digest].add(each.content)
    assert {len(contents) for contents in answers.values()} == {1}
    assert len(answers) > len(places) // 2
    (entry,) = server.client.get("/v1/models").json()["models"]
    ready = set(entry["versions"]) - {failed["version"] for failed in entry.get("failed", ())}
    assert len(ready) == KEPT
    assert f"not served: model/{publications // 5 * 5}: " in server.output
