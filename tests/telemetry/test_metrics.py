"""Metrics: each of them is moved by its cause, by as much as that was, and what callers make up is no label."""

from __future__ import annotations

import asyncio
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import penumbra
from service.engine.kernel import binaries
from service.telemetry import catalogue
from service.telemetry.observer import Watched
from tests.api.inside import running
from tests.api.live import ROOT, Server
from tests.api.stores import publish
from tests.api.test_queue import held_service
from tests.api.wire import TINY_ROWS
from tests.objects import free_ports
from tests.service.test_catalogue import unreadable
from tests.telemetry.scrape import matching, scrape, scrape_inside, total, value

SAMPLE = "/v1/models/{name}/sample"
PREDICT = "/v1/models/{name}/predict"


def test_the_list_of_metrics_is_up_to_date() -> None:
    """docs/metrics.md is what the catalogue prints."""
    assert (ROOT / "docs" / "metrics.md").read_text() == catalogue.markdown()


def test_every_metric_is_moved_here() -> None:
    """Each name of the catalogue stands in a test."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for family in catalogue.FAMILIES:
        assert f'"{family.name}' in tests, family.name


async def test_gauges_are_noted_again_after_a_moment_without_files(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be read once doesn't end the heartbeat."""
    readings: list[float | OSError] = [1.0, OSError(24, "Too many open files"), 7.0]

    def read() -> float:
        reading = readings.pop(0) if len(readings) > 1 else readings[0]
        if isinstance(reading, OSError):
            raise reading
        return reading

    monkeypatch.setattr("service.telemetry.counting.resident_memory", read)
    monkeypatch.setattr("service.telemetry.observer.HEARTBEAT_SECONDS", 0.0)
    async with running(store=tiny_store, access_log=False) as (_, client), asyncio.timeout(60):
        while value(await scrape_inside(client), "penumbra_worker_resident_memory_bytes", worker="0") != 7.0:
            pass


async def test_requests_are_counted_by_route_model_and_status(tiny_store: Path) -> None:
    """Templates, names in the store and statuses are labels; whatever else was asked for is other, or none."""
    async with running(store=tiny_store, access_log=False) as (_, client):
        for _ in range(3):
            assert (await client.post("/v1/models/silent/predict", json={"inputs": TINY_ROWS})).status_code == 200
        await client.post("/v1/models/silent/versions/1/predict", json={"inputs": TINY_ROWS})
        await client.post("/v1/models/silent/sample", json={"inputs": "canary"})
        await client.post("/v1/models/dry/sample", json={"inputs": TINY_ROWS})
        await client.post("/v1/models/broken/predict", json={"inputs": TINY_ROWS})
        await client.post("/v1/models/canary/predict", json={"inputs": TINY_ROWS})
        await client.post("/v1/models/silent/versions/canary/predict", json={"inputs": TINY_ROWS})
        await client.get("/v1/models/silent/predict")
        await client.get("/v1/models/silent")
        await client.get("/v1/models/canary")
        await client.get("/v1/models")
        await client.get("/health/live")
        await client.get("/openapi.json")
        await client.get("/canary")
        await client.post("/canary/predict")
        scraped = await scrape_inside(client)
    found = {
        (labels["route"], labels["model"], labels["status"]): number
        for labels, number in matching(scraped, "penumbra_requests_total")
    }
    assert found == {
        (PREDICT, "silent", "200"): 3,
        ("/v1/models/{name}/versions/{version}/predict", "silent", "200"): 1,
        (SAMPLE, "silent", "422"): 1,
        (SAMPLE, "dry", "409"): 1,
        (PREDICT, "broken", "503"): 1,
        (PREDICT, "none", "404"): 1,
        ("/v1/models/{name}/versions/{version}/predict", "silent", "404"): 1,
        (PREDICT, "silent", "405"): 1,
        ("/v1/models/{name}", "silent", "200"): 1,
        ("/v1/models/{name}", "none", "404"): 1,
        ("/v1/models", "none", "200"): 1,
        ("/health/live", "none", "200"): 1,
        ("/openapi.json", "none", "200"): 1,
        ("other", "none", "404"): 2,
    }
    for route in {route for route, *_ in found}:
        expected = sum(number for (known, *_), number in found.items() if known == route)
        assert value(scraped, "penumbra_request_duration_seconds_count", route=route) == expected


async def test_inventions_never_become_labels(tiny_store: Path) -> None:
    """Hundreds of made-up models, versions, paths and methods add a handful of series, and no memory of them."""
    async with running(store=tiny_store, access_log=False) as (app, client):
        for number in range(300):
            await client.post(f"/v1/models/canary{number}/predict", json={"inputs": TINY_ROWS})
            await client.post(f"/v1/models/silent/versions/canary{number}/sample", json={"inputs": TINY_ROWS})
            await client.get(f"/v1/models/canary{number}")
            await client.get(f"/canary{number}")
            await client.request(f"CANARY{number}", "/v1/models")
        scraped = await scrape_inside(client)
        assert "canary" not in str(scraped).lower()
        assert len(list(matching(scraped, "penumbra_requests_total"))) == 5
        assert total(scraped, "penumbra_requests_total") == 1500
        assert len(app.observer._counters._answers) < 9  # type: ignore[attr-defined]


async def test_computed_requests_are_counted_with_their_company(tiny_store: Path) -> None:
    """Twelve requests at once, and one alone: durations for each, companies that hold them all, rows and samples."""
    async with running(store=tiny_store, access_log=False) as (_, client):

        async def ask(rows: int, **options: Any) -> None:
            body = {"inputs": TINY_ROWS[:rows], **options}
            verb = "sample" if options else "predict"
            assert (await client.post(f"/v1/models/silent/{verb}", json=body)).status_code == 200

        await asyncio.gather(*(ask(1 + number % 3, seed=number, samples=10 + number) for number in range(12)))
        await ask(3)
        again = await client.post("/v1/models/silent/predict", json={"inputs": TINY_ROWS})
        tag = {"If-None-Match": again.headers["etag"]}
        unchanged = await client.post("/v1/models/silent/predict", json={"inputs": TINY_ROWS}, headers=tag)
        assert unchanged.status_code == 304  # not computed
        scraped = await scrape_inside(client)
    for operation, requests, rows in (("sample", 12, 24), ("predict", 2, 6)):
        asked = {"model": "silent", "operation": operation}
        assert value(scraped, "penumbra_computed_requests_total", **asked) == requests
        assert value(scraped, "penumbra_queue_duration_seconds_count", **asked) == requests
        assert value(scraped, "penumbra_compute_duration_seconds_count", **asked) == requests
        assert value(scraped, "penumbra_compute_duration_seconds_sum", **asked) > 0
        assert value(scraped, "penumbra_company_requests_sum", **asked) == requests
        assert value(scraped, "penumbra_company_rows_sum", **asked) == rows
        assert value(scraped, "penumbra_rows_total", version="1", **asked) == rows
        companies = value(scraped, "penumbra_company_requests_count", **asked)
        assert value(scraped, "penumbra_company_rows_count", **asked) == companies
        assert companies <= requests
    assert value(scraped, "penumbra_company_requests_count", model="silent", operation="sample") < 12
    assert value(scraped, "penumbra_company_samples_sum", model="silent") == sum(range(10, 22))
    evaluations = sum((10 + number) * (1 + number % 3) for number in range(12))
    assert value(scraped, "penumbra_evaluations_total", model="silent", version="1") == evaluations


@pytest.mark.parametrize("count", [1, 5, 200])
async def test_rows_outside_the_range_of_training_are_counted(count: int, tiny_store: Path) -> None:
    """Each once, however many of its inputs are; the ends of the range belong to it."""
    inside, at_the_ends = [0.0, 1.0, 2.9], [-3.0, 3.0, 3.0]
    outside = [[3.1, 0.0, 0.0], [-9.0, 9.0, 9.0], [0.0, 0.0, -3.001]]
    async with running(store=tiny_store, access_log=False) as (_, client):
        rows = (outside + [inside, at_the_ends] * count)[: max(count, 4)]
        for verb in ("predict", "sample"):
            body = {"inputs": rows, **({"samples": 3} if verb == "sample" else {})}
            assert (await client.post(f"/v1/models/silent/{verb}", json=body)).status_code == 200
        one = await client.post("/v1/models/silent/predict", json={"inputs": [inside]})
        assert one.status_code == 200
        scraped = await scrape_inside(client)
    for operation, more in (("predict", 1), ("sample", 0)):
        labels = {"model": "silent", "version": "1", "operation": operation}
        assert value(scraped, "penumbra_rows_out_of_range_total", **labels) == 3
        assert value(scraped, "penumbra_rows_total", **labels) == len(rows) + more


@pytest.mark.parametrize("rows", [1, 3, 100])
async def test_uncertainty_is_counted_as_it_was_answered(rows: int, tiny_store: Path) -> None:
    """The histograms hold each row's spread over its target's scale, or entropies: none of what-ifs, none of one."""
    names = {
        "headed": {"std": "penumbra_predictive_std_ratio", "epistemic_std": "penumbra_epistemic_std_ratio"},
        "colours": {
            "predictive_entropy": "penumbra_predictive_entropy_nats",
            "mutual_information": "penumbra_mutual_information_nats",
        },
    }
    async with running(store=tiny_store, access_log=False) as (_, client):
        for model, fields in names.items():
            body = {"inputs": (TINY_ROWS * rows)[:rows], "seed": 5}
            answer = (await client.post(f"/v1/models/{model}/sample", json=body)).json()
            await client.post(f"/v1/models/{model}/sample", json=body | {"samples": 1})
            await client.post(f"/v1/models/{model}/sample", json=body | {"dropout": 0.2})
            scraped = await scrape_inside(client)
            for field, name in fields.items():
                family = next(each for each in catalogue.FAMILIES if each.name == name)
                found = np.ravel(np.array(answer[field]) / ([3.0, 200.0] if model == "headed" else 1.0))
                for bound in family.bounds:
                    seen = value(scraped, f"{name}_bucket", model=model, version="1", le=str(float(bound)))
                    assert seen == np.sum(found <= bound)
                assert value(scraped, f"{name}_count", model=model, version="1") == len(found)
                assert value(scraped, f"{name}_sum", model=model, version="1") == pytest.approx(found.sum())


async def test_a_seed_that_returns_hits_the_mask_cache(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PyTorch: the first two times masks are drawn, and then they are there. The kernel draws its own."""
    monkeypatch.setattr(binaries, "load", lambda: None)
    async with running(store=tiny_store, access_log=False, answer_cache_bytes=0) as (_, client):
        for _ in range(5):
            await client.post("/v1/models/silent/sample", json={"inputs": TINY_ROWS, "seed": 5})
        scraped = await scrape_inside(client)
    assert value(scraped, "penumbra_mask_cache_misses_total") == 2
    assert value(scraped, "penumbra_mask_cache_hits_total") == 3
    assert value(scraped, "penumbra_mask_cache_bytes") > 0


async def test_answers_that_are_kept_are_counted(tiny_store: Path) -> None:
    """Where they came from, what they take, what had to go, and that Redis is not there."""
    (nobody,) = free_ports(1)
    body = {"inputs": TINY_ROWS * 40, "samples": 500}  # worth a look into Redis
    url = f"redis://127.0.0.1:{nobody}"
    async with running(store=tiny_store, access_log=False, answer_cache_bytes=2**18, redis_url=url) as (_, client):
        for seed in (1, 1, *range(2, 12)):
            assert (await client.post("/v1/models/silent/sample", json={**body, "seed": seed})).status_code == 200
        scraped = await scrape_inside(client)
    outcomes = {
        labels["outcome"]: number for labels, number in matching(scraped, "penumbra_answer_cache_requests_total")
    }
    assert outcomes == {"hit": 1, "shared": 0, "joined": 0, "miss": 11}
    assert 0 < value(scraped, "penumbra_answer_cache_bytes") <= 2**18
    assert value(scraped, "penumbra_answer_cache_evictions_total") > 0
    assert value(scraped, "penumbra_redis_failures_total") == 1


async def test_looks_into_the_store_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that found what is there, and those that found nobody home."""
    publish(tmp_path, "model", "1")
    async with running(store=tmp_path, workers=1, watch_seconds=0, access_log=False) as (_, client):
        assert (await client.post("/v2/repository/models/model/load")).status_code == 200
        with monkeypatch.context() as broken:
            broken.setattr(Path, "iterdir", unreadable)
            assert (await client.post("/v2/repository/models/model/load")).status_code == 503
        scraped = await scrape_inside(client)
    assert value(scraped, "penumbra_store_looks_total", outcome="ok") == 1
    assert value(scraped, "penumbra_store_looks_total", outcome="failed") == 1


async def test_what_is_not_computed_is_counted_by_reason(tiny_store: Path) -> None:
    """A full queue, a deadline that passes in it, and a service that closes; with gauges of what waits meanwhile."""
    path, body = "/v1/models/silent/predict", {"inputs": TINY_ROWS}
    async with held_service(tiny_store, max_queue=2) as (queue, app, client):
        app.observer._watched = Watched(app.state.inference.catalogue, queue.batcher, app.observer._watched.cache)
        late = asyncio.create_task(client.post(path, json=body, headers={"X-Deadline-Ms": "5"}))
        while queue.batcher.admitted < 2:  # noqa: ASYNC110 - turns of the event loop, not time
            await asyncio.sleep(0)
        assert (await client.post(path, json=body)).status_code == 503
        scraped = await scrape_inside(client)
        assert value(scraped, "penumbra_in_flight_requests") == 2
        assert value(scraped, "penumbra_queued_requests") == 1
        assert value(scraped, "penumbra_admitted_work_seconds") > 1.0
        assert value(scraped, "penumbra_shed_total", reason="queue_full") == 1
        queue.clock.now += 1.0
        queue.holder.go.set()
        assert (await late).status_code == 504
        await asyncio.to_thread(queue.batcher.close)
        assert (await client.post(path, json=body)).status_code == 503
        scraped = await scrape_inside(client)
    reasons = {labels["reason"]: number for labels, number in matching(scraped, "penumbra_shed_total")}
    assert reasons == {
        "queue_full": 1,
        "deadline": 1,
        "client_gone": 0,
        "shutting_down": 1,
        "rate": 0,
        "share": 0,
        "memory": 0,
    }
    assert value(scraped, "penumbra_in_flight_requests") == 0
    assert value(scraped, "penumbra_queued_requests") == 0
    assert value(scraped, "penumbra_admitted_work_seconds") == 0
    assert total(scraped, "penumbra_computed_requests_total") == 0


def test_callers_who_hang_up_are_counted(start_server: Callable[..., Server]) -> None:
    """Of three long requests whose callers leave, those that had not been computed."""
    server = start_server(workers=1, threads=1)
    row = ", ".join(["0.01"] * 10)
    body = f'{{"inputs": [{", ".join([f"[{row}]"] * 20)}], "samples": 100000, "seed": 1}}'.encode()
    head = b"POST /v1/models/diabetes/sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    callers = []
    for _ in range(3):
        host, port = server.url.removeprefix("http://").split(":")
        caller = socket.create_connection((host, int(port)))
        caller.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        callers.append(caller)
    while value(scrape(server.client), "penumbra_in_flight_requests") < 3:
        pass
    for caller in callers:
        caller.close()
    while value(scraped := scrape(server.client), "penumbra_in_flight_requests") > 0:
        pass
    gone = value(scraped, "penumbra_shed_total", reason="client_gone")
    computed = total(scraped, "penumbra_computed_requests_total")
    assert gone >= 2
    assert gone + computed == 3


async def test_what_is_served_and_running_is_told(tiny_store: Path) -> None:
    """Every version with its digest, those that failed verification included; the build; and the worker."""
    async with running(store=tiny_store, access_log=False) as (app, client):
        scraped = await scrape_inside(client)
        models = app.state.inference.catalogue.models
    told = {
        (labels["model"], labels["version"]): (labels["digest"], labels["ready"])
        for labels, one in matching(scraped, "penumbra_model_info")
        if one == 1
    }
    assert told == {
        (name, version): (model.manifest.digest, "true") if model else ("", "false")
        for name, versions in models.items()
        for version, model in versions.items()
    }
    assert ("broken", "1") in told
    build = {"version": penumbra.__version__, "python": platform.python_version(), "torch": torch.__version__}
    assert value(scraped, "penumbra_build_info", **build) == 1
    assert value(scraped, "penumbra_worker_start_time_seconds", worker="0") > 1.7e9
    assert value(scraped, "penumbra_worker_resident_memory_bytes", worker="0") > 5e7
    assert ("penumbra_worker_event_loop_lag_seconds", frozenset({("worker", "0")})) in scraped
    assert value(scraped, "penumbra_access_log_dropped_total") == 0


async def test_metrics_can_be_switched_off(tiny_store: Path) -> None:
    """Then there is nothing at /metrics, and everything else works."""
    async with running(store=tiny_store, metrics=False, access_log=False) as (_, client):
        assert (await client.get("/metrics")).status_code == 404
        answer = await client.post("/v1/models/silent/sample", json={"inputs": TINY_ROWS})
        assert answer.status_code == 200


async def test_a_mistake_in_counting_costs_no_answer(tiny_store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the request is answered all the same."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("canary")

    async with running(store=tiny_store, access_log=False) as (app, client):
        app.observer._counters.evaluated = app.observer._counters.answered = fail  # type: ignore[attr-defined]
        answer = await client.post("/v1/models/silent/sample", json={"inputs": TINY_ROWS})
        assert answer.status_code == 200
    assert "an evaluation was not observed" in caplog.text
    assert "an answer was not observed" in caplog.text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong(server: Server) -> None:
    """Names, units, types and help texts follow Prometheus' conventions."""
    text = server.client.get("/metrics").content
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
