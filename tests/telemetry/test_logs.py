"""Logs: every line is JSON and says what it should, nothing that it must not, and none is lost."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import pty
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.telemetry import logs
from tests.api.inside import running
from tests.api.live import ROOT, Server
from tests.api.wire import ROW, TINY_ROWS
from tests.telemetry.scrape import scrape_inside, value

FIELDS = [
    *(
        "time",
        "level",
        "logger",
        "message",
        "pid",
        "method",
        "route",
        "model",
        "version",
        "digest",
        "key",
        "request_id",
    ),
    *("status", "rows", "samples", "seed", "queue_ms", "compute_ms", "total_ms"),
]
seconds = st.floats(0, 1e5)
entries = st.tuples(
    seconds,
    st.just(b'"pid":1,"method":"POST","route":"/x","model":"m","version":null,"digest":null,"key":null'),
    st.from_regex(rb"[A-Za-z0-9._~-]{1,20}", fullmatch=True),
    st.integers(100, 599),
    *(st.none() | st.integers(0, 2**53 - 1) for _ in range(3)),
    *(st.none() | seconds for _ in range(2)),
    seconds,
)


def access_lines(server: Server) -> list[dict[str, Any]]:
    """The access lines of a server that has ended; every line that it has printed is JSON."""
    lines = [json.loads(line) for line in server.output.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message", "pid"} <= line.keys()
        assert line["time"].endswith("Z")
        assert abs(datetime.fromisoformat(line["time"]).timestamp() - datetime.now(UTC).timestamp()) < 600
    return [line for line in lines if line["logger"] == logs.ACCESS]


def test_every_request_has_a_line_that_says_what_was_asked(start_server: Callable[..., Server]) -> None:
    """In order, with id, route, model, what was asked, how long it took and status; none is lost in a clean stop."""
    server = start_server()
    digest = server.client.get("/v1/models/diabetes").json()["digest"].removeprefix("sha256:")[:12]
    sent: list[tuple[str, str, dict[str, Any]]] = []
    for number in range(120):
        headers = {"X-Request-ID": f"mine-{number}"}
        sample = {"inputs": [ROW] * 2, "samples": 10 + number, "seed": number}
        server.client.post("/v1/models/diabetes/sample", json=sample, headers=headers)
        sent.append(("sample", f"mine-{number}", {"status": 200, "rows": 2, "samples": 10 + number, "seed": number}))
        server.client.post("/v1/models/diabetes/predict", json={"inputs": [ROW]}, headers=headers)
        sent.append(("predict", f"mine-{number}", {"status": 200, "rows": 1, "samples": None, "seed": None}))
    server.client.post("/v1/models/diabetes/predict", json={"inputs": []}, headers={"X-Request-ID": "wrong"})
    server.stop()
    lines = access_lines(server)
    assert [list(line) for line in lines] == [FIELDS] * len(lines)
    hot = [line for line in lines if line["method"] == "POST"]
    assert [(line["route"].rpartition("/")[2], line["request_id"]) for line in hot[:-1]] == [s[:2] for s in sent]
    for line, (_, _, expected) in zip(hot[:-1], sent, strict=True):
        assert expected.items() <= line.items()
        assert (line["level"], line["model"], line["version"], line["digest"]) == ("info", "diabetes", "1", digest)
        assert 0 <= line["queue_ms"] <= line["total_ms"]
        assert 0 < line["compute_ms"] <= line["total_ms"]
    wrong = hot[-1]
    assert (wrong["status"], wrong["queue_ms"], wrong["rows"], wrong["model"]) == (422, None, None, "diabetes")
    assert lines[-1] == wrong
    assert [line["route"] for line in lines if line["method"] == "GET"][-1] == "/v1/models/{name}"


def test_two_workers_lose_no_line(start_server: Callable[..., Server]) -> None:
    """Each request of many connections has its one line, when both workers were stopped."""
    server = start_server(workers=2)
    ids = [f"id-{number}" for number in range(400)]

    def ask(some: list[str]) -> None:
        with server.client.__class__(base_url=server.url) as client:
            for one in some:
                client.post("/v1/models/digits/predict", json={"inputs": [[0.0] * 64]}, headers={"X-Request-ID": one})

    threads = [threading.Thread(target=ask, args=(ids[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    lines = [line for line in access_lines(server) if line["method"] == "POST"]
    assert sorted(line["request_id"] for line in lines) == sorted(ids)


def test_nothing_that_callers_say_is_in_the_log(start_server: Callable[..., Server]) -> None:
    """Neither inputs nor keys nor bodies, nor paths, queries and headers; and nobody writes a line of their own."""
    server = start_server(log_level="debug")
    canary = 0.7345198273
    headers = {"Authorization": "Bearer canary-key", "X-API-Key": "canary-key", "User-Agent": "canary-agent"}
    for body in (
        {"inputs": [[canary] * 10]},
        {"inputs": [[canary] * 9]},
        {"inputs": [{"canary": canary}]},
        {"inputs": [[1e300, *[canary] * 9]], "canary": 1},
        {"canary": "canary"},
    ):
        for verb in ("predict", "sample"):
            server.client.post(f"/v1/models/diabetes/{verb}?canary=canary", json=body, headers=headers)
            server.client.post(f"/v1/models/canary/{verb}", json=body, headers=headers)
    server.client.post("/v1/models/diabetes/predict", content=b'{"canary', headers=headers)
    server.client.get('/canary%0a{"level":"error","message":"canary"}', headers=headers)
    server.client.get("/v1/models", headers={"X-Request-ID": 'canary","level":"error'})
    host, port = server.url.removeprefix("http://").split(":")
    for raw in (
        b"CANARY /canary HTTP/1.1\r\nHost: canary\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: canary\r\nX-Request-ID: canary\x0bcanary\r\nConnection: close\r\n\r\n",
        b"canary\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as caller:
            caller.sendall(raw)
            caller.recv(65536)
    server.stop()
    access_lines(server)
    assert "canary" not in server.output
    assert str(canary)[:8] not in server.output


def test_a_bug_is_one_line_with_its_traceback(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a record says, and over however many lines, it is one JSON object."""
    record = logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, "two\nlines %s", ("\x1b[31m…",), None)
    try:
        raise ZeroDivisionError("canary")
    except ZeroDivisionError:
        record.exc_info = sys.exc_info()
    record.color_message = "colours"
    handler = logs.LineHandler()
    handler.setFormatter(logs.JsonFormatter())
    handler.handle(record)
    written = capsysbinary.readouterr().err
    assert written.count(b"\n") == 1
    line = json.loads(written)
    assert (line["level"], line["logger"], line["message"]) == ("error", "uvicorn.error", "two\nlines \x1b[31m…")
    assert "ZeroDivisionError: canary" in line["exc_info"]
    assert "color_message" not in line
    handler.setFormatter(logs.TextFormatter("%(levelprefix)s %(message)s"))
    handler.handle(record)
    assert b"two\\nlines" in capsysbinary.readouterr().err


@given(st.lists(entries, min_size=1, max_size=20))
def test_lines_laid_out_together_say_what_each_entry_does(found: list[Any]) -> None:
    """A column at a time comes to the same as a line at a time."""
    with mock.patch.object(logs.time, "time", return_value=1e9), mock.patch.object(logs, "clock", return_value=0.0):
        lines = [json.loads(line) for line in logs.as_json(found).splitlines()]
        people = logs.as_text(found).decode().splitlines()
    assert len(lines) == len(people) == len(found)
    for line, text, entry in zip(lines, people, found, strict=True):
        at, _, request_id, status, rows, samples, seed, queue, compute, total = entry
        assert list(line) == FIELDS
        assert (line["request_id"], line["status"]) == (request_id.decode(), status)
        assert (line["rows"], line["samples"], line["seed"]) == (rows, samples, seed)
        assert math.isclose(datetime.fromisoformat(line["time"]).timestamp(), 1e9 + at, abs_tol=1e-5)
        for name, value_ in (("queue_ms", queue), ("compute_ms", compute), ("total_ms", total)):
            assert line[name] is None if value_ is None else math.isclose(line[name], value_ * 1e3, abs_tol=6e-4)
        assert request_id.decode() in text
        assert f" {status} " in text


@pytest.mark.parametrize(
    ("settings", "count"), [({"access_log": "off"}, 0), ({"log_level": "warning"}, 0), ({"access_log": "on"}, 1)]
)
def test_access_lines_can_be_switched_off(
    settings: dict[str, str], count: int, start_server: Callable[..., Server]
) -> None:
    """By their own setting, or by a level above theirs."""
    server = Server(**settings) if "log_level" not in settings else None
    if server is None:  # nothing is said of where it listens, so it is told
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert _quiet_lines(port, settings) == []
        return
    server.client.post("/v1/models/diabetes/predict", json={"inputs": [ROW]})
    server.stop()
    assert len([line for line in access_lines(server) if line["method"] == "POST"]) == count


def _quiet_lines(port: int, settings: dict[str, str]) -> list[str]:
    """What a service prints from its start to its end, with a request between them."""
    environment = {**os.environ, "PENUMBRA_PORT": str(port), "PENUMBRA_WORKERS": "1"}
    environment |= {f"PENUMBRA_{name.upper()}": text for name, text in settings.items()}
    process = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port)) as caller:
                caller.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if caller.recv(65536).startswith(b"HTTP/1.1 200"):
                    break
        except ConnectionError:
            continue
    process.terminate()
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 0
    return printed.decode().splitlines()


def test_a_terminal_gets_text_and_a_pipe_json() -> None:
    """Standard error decides, unless the form is set."""
    script = "from service.telemetry import logs; print(logs.resolved('auto'), logs.resolved('json'))"
    command = [sys.executable, "-c", script]
    terminal, inside = pty.openpty()
    for where, expected in ((inside, "text json\n"), (subprocess.PIPE, "json json\n")):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=where, text=True, check=True)
        assert done.stdout == expected
    os.close(inside)
    os.close(terminal)


def test_lines_for_people(start_server: Callable[..., Server]) -> None:
    """In text form a request is one line that can be read."""
    server = start_server(log_format="text")
    body = {"inputs": [ROW], "samples": 20, "seed": 7}
    server.client.post("/v1/models/diabetes/sample", json=body, headers={"X-Request-ID": "mine"})
    server.stop()
    (line,) = (line for line in server.output.splitlines() if "/sample" in line)
    for part in ("POST /v1/models/{name}/sample 200", "diabetes/1", "rows 1", "samples 20 seed 7", "id mine"):
        assert part in line
    assert "INFO:     Application startup complete." in server.output


@pytest.fixture
def line_handler() -> Iterator[None]:
    """The service's records go the way they go in production."""
    handler, ours = logs.LineHandler(), logging.getLogger("service")
    handler.setFormatter(logs.JsonFormatter())
    ours.addHandler(handler)
    yield
    ours.removeHandler(handler)


@pytest.mark.parametrize("access_log", [True, False])
async def test_a_log_that_nobody_reads_is_dropped_and_counted(
    access_log: bool, tiny_store: Path, monkeypatch: pytest.MonkeyPatch, line_handler: None
) -> None:
    """While the writer is stuck lines wait, and beyond a number of them are given up: the service answers on.

    The line that says so does not wait for the reader either, nor does any other.
    """
    started, stuck, go = threading.Event(), threading.Event(), threading.Event()
    writers: set[int] = set()

    class Stderr(io.TextIOWrapper):
        def isatty(self) -> bool:
            return False

    class Stuck(io.BytesIO):
        def write(self, data: Any) -> int:
            if started.is_set():
                writers.add(threading.get_ident())
                stuck.set()
                assert go.wait(10)
            return len(data)

    monkeypatch.setattr(sys, "stderr", Stderr(Stuck()))
    monkeypatch.setattr(logs, "WRITE_SECONDS", 0.0)
    monkeypatch.setattr(logs, "MOST_LINES", 10)
    async with running(store=tiny_store, access_log=access_log) as (_, client):
        started.set()
        scraped = await scrape_inside(client)
        for _ in range(100):
            await client.post("/v1/models/silent/predict", json={"inputs": TINY_ROWS})
            logging.getLogger("service.canary").warning("canary")
            if stuck.is_set() and value(scraped, "penumbra_access_log_dropped_total") > 0:
                break
            scraped = await scrape_inside(client)
        assert value(scraped, "penumbra_access_log_dropped_total") > 10
        assert len(logs.LINES) < 30
        go.set()
    assert threading.get_ident() not in writers


def test_lines_are_dropped_while_another_thread_takes_some() -> None:
    """What is gone before it could be dropped does no harm."""

    class Fewer(deque[Any]):
        def __len__(self) -> int:
            return super().__len__() + 2

    lines = logs.Lines()
    lines._waiting = Fewer([b"one\n", b"two\n"])
    assert lines.drop() == 2
