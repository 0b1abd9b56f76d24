"""Two workers under load count exactly what their clients count, whichever answers the scrape, and lose nothing."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.api.live import Server
from tests.laws.test_3_in_a_crowd import Answered, Asked, ask, bad, good
from tests.telemetry.scrape import Scraped, matching, parsed, total, value

REQUESTS = 3000
CONNECTIONS = 32


def crowd(seed: int) -> list[Asked]:
    """Good and bad requests of all kinds, whose callers all stay."""
    rng = random.Random(seed)
    return [good(rng) if rng.random() < 0.85 else bad(rng) for _ in range(REQUESTS)]


def scrapes(server: Server, workers: int) -> list[Scraped]:
    """What each worker says, at first whichever answers; a worker is known by the ids that it gives."""
    found: dict[str, Scraped] = {}
    while len(found) < workers:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            answer = client.get("/metrics")
        found.setdefault(answer.headers["x-request-id"][:16], parsed(answer.text))
    return list(found.values())


def expected_of(asked: list[Asked], answers: list[Answered | None]) -> Counter[tuple[str, ...]]:
    """What the client has seen: requests by path and status, and what was computed for them."""
    seen: Counter[tuple[str, ...]] = Counter()
    for request, answer in zip(asked, answers, strict=True):
        assert answer is not None
        _, _, _, model, operation = request.path.split("/")
        seen["requests", operation, model, str(answer.status)] += 1
        if answer.status == 200:
            body = json.loads(request.body)
            rows, samples = len(body["inputs"]), body.get("samples", 1)
            seen["computed", operation, model] += 1
            seen["rows", operation, model] += rows
            if operation == "sample":
                seen["samples", model] += samples
                seen["evaluations", model] += rows * samples
                if samples > 1 and "dropout" not in body:
                    seen["uncertain", model] += rows
    return seen


def told_by(scraped: Scraped) -> Counter[tuple[str, ...]]:
    """The same, as the service tells it."""
    told: Counter[tuple[str, ...]] = Counter()
    for labels, number in matching(scraped, "penumbra_requests_total"):
        if labels["route"].endswith(("/predict", "/sample")):
            told["requests", labels["route"].rpartition("/")[2], labels["model"], labels["status"]] += int(number)
    for kind, name in (("computed", "penumbra_computed_requests_total"), ("rows", "penumbra_rows_total")):
        for labels, number in matching(scraped, name):
            told[kind, labels["operation"], labels["model"]] += int(number)
    for labels, number in matching(scraped, "penumbra_company_samples_sum"):
        told["samples", labels["model"]] += int(number)
    for labels, number in matching(scraped, "penumbra_evaluations_total"):
        told["evaluations", labels["model"]] += int(number)
    for name in ("penumbra_epistemic_std_ratio_count", "penumbra_mutual_information_nats_count"):
        for labels, number in matching(scraped, name):
            told["uncertain", labels["model"]] += int(number)
    return told


def check(scraped: Scraped, expected: Counter[tuple[str, ...]]) -> None:
    """Every count is the client's; and the counts of one thing under several names agree."""
    assert told_by(scraped) == expected
    computed = total(scraped, "penumbra_computed_requests_total")
    for name in ("penumbra_queue_duration_seconds_count", "penumbra_compute_duration_seconds_count"):
        assert total(scraped, name) == computed
    assert total(scraped, "penumbra_company_requests_sum") == computed
    assert total(scraped, "penumbra_company_rows_sum") == total(scraped, "penumbra_rows_total")
    assert total(scraped, "penumbra_request_duration_seconds_count") == total(scraped, "penumbra_requests_total")
    assert total(scraped, "penumbra_shed_total") == 0


def test_two_workers_count_what_their_clients_count(start_server: Callable[..., Server]) -> None:
    """Right after the last answer, from either worker; also after one was killed and another has taken its place."""
    server = start_server(workers=2, threads=1, answer_cache_bytes=0)
    scrapes(server, 2)  # both are up
    asked = crowd(1)
    expected = expected_of(asked, asyncio.run(ask(server.url, asked, CONNECTIONS)))
    for scraped in scrapes(server, 2):
        check(scraped, expected)
        assert len(list(matching(scraped, "penumbra_worker_start_time_seconds"))) == 2
    # Gauges of the other worker are as old as its last heartbeat.
    while total(scrapes(server, 1)[0], "penumbra_in_flight_requests") > 0:
        pass

    killed = _workers(server)[0]
    os.kill(killed, signal.SIGKILL)
    while killed in _workers(server):  # until its parent has noticed
        pass
    (scraped, *_) = scrapes(server, 1)
    check(scraped, expected)

    scrapes(server, 2)  # another has started
    more = crowd(2)
    expected += expected_of(more, asyncio.run(ask(server.url, more, CONNECTIONS)))
    for scraped in scrapes(server, 2):
        check(scraped, expected)
        workers = {labels["worker"] for labels, _ in matching(scraped, "penumbra_worker_start_time_seconds")}
        assert workers == {"0", "1"}


def test_counts_stay_where_their_directory_does(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """A service that is told where to count goes on from there when it is started again."""
    body = {"inputs": [[0.0] * 10]}
    for times in (1, 2):
        server = start_server(metrics_dir=tmp_path)
        assert server.client.post("/v1/models/diabetes/predict", json=body).status_code == 200
        scraped = parsed(server.client.get("/metrics").text)
        assert value(scraped, "penumbra_rows_total", model="diabetes", version="1", operation="predict") == times
        server.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["0.page"]


def test_nothing_is_left_behind(start_server: Callable[..., Server]) -> None:
    """The directory that a service made for its counts is gone when it has ended."""
    server = start_server(workers=2)
    mapped = Path(f"/proc/{_workers(server)[0]}/maps").read_text().split()
    (directory,) = {Path(each).parent for each in mapped if each.endswith(".page")}
    assert (directory / "0.page").exists()
    assert directory.stat().st_mode & 0o077 == 0
    server.stop()
    assert not directory.exists()


def _workers(server: Server) -> list[int]:
    """The worker processes."""
    parent = server._process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children]
