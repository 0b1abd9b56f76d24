"""The server as an operator starts and stops it: with several workers, with notice, and asked after its health."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.live import ROOT, Server

BODY = {"inputs": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]], "samples": 10, "seed": 7}
PATH = "/v1/models/diabetes/sample"


def workers_of(server: Server) -> list[int]:
    """The worker processes of a service."""
    supervisor = server._process.pid
    return [int(pid) for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]


def health(server: Server, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m service health`, asking this server."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "service", "health"],
        cwd=ROOT,
        env={**os.environ, "PENUMBRA_PORT": str(httpx.URL(server.url).port), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def takes_connections(address: tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(address, 60).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_workers_are_forked_from_a_single_thread_and_differ(start_server: Callable[..., Server]) -> None:
    """What is forked has no other thread, so that no lock stays locked.

    Workers number requests differently and agree on answers to the byte, also one that took another's place.
    """
    several = start_server(workers=2, threads=1)
    supervisor = several._process.pid
    assert len(list(Path(f"/proc/{supervisor}/task").iterdir())) == 1
    killed = workers_of(several)[0]
    answers: dict[str, set[bytes]] = {}

    def ask_until(seen: int) -> None:
        while len(answers) < seen:
            with httpx.Client(base_url=several.url) as client:
                try:
                    answer = client.post(PATH, json=BODY)
                except httpx.TransportError:  # it was the one that is killed
                    continue
            assert answer.status_code == 200
            answers.setdefault(answer.headers["x-request-id"][:16], set()).add(answer.content)

    ask_until(2)
    os.kill(killed, signal.SIGKILL)
    ask_until(3)
    assert len(set.union(*answers.values())) == 1
    several.stop()
    assert f"worker {killed} was ended by signal 9" in several.output
    assert not Path(f"/proc/{killed}").exists()


@pytest.mark.slow
def test_a_store_that_changed_is_read_on_sighup(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """New workers serve what the store holds by then."""
    from tests.api.stores import publish_all

    (store := tmp_path / "store").mkdir()
    several = start_server(store=store, workers=2, threads=1, watch_seconds=0)
    assert several.client.get("/v1/models").json() == {"models": []}
    publish_all(store)
    several._process.send_signal(signal.SIGHUP)
    while not several.client.get("/v1/models", headers={"Connection": "close"}).json()["models"]:
        pass


def test_it_says_that_it_is_not_ready_before_it_stops(start_server: Callable[..., Server]) -> None:
    """After SIGTERM readiness is gone first, and whoever still asks is still answered."""
    leaving = start_server(stop_delay_seconds=2)
    leaving._process.send_signal(signal.SIGTERM)
    while leaving.client.get("/health/ready").status_code == 200:
        pass
    assert leaving.client.get("/health/ready").status_code == 503
    assert leaving.client.get("/health/live").status_code == 200
    assert leaving.client.post(PATH, json=BODY).status_code == 200
    leaving.stop()  # asserts the exit code


def test_who_presses_ctrl_c_does_not_wait(start_server: Callable[..., Server]) -> None:
    """Also where it was told to stop, and waits for whoever routes requests here."""
    leaving = start_server(stop_delay_seconds=100_000)
    leaving._process.send_signal(signal.SIGTERM)
    while leaving.client.get("/health/ready").status_code == 200:
        pass
    leaving._process.send_signal(signal.SIGINT)
    assert leaving._process.wait(60) == 0
    leaving.stop()


def test_a_store_without_models_is_told(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """Once: it may be meant, or be the wrong directory."""
    empty = start_server(store=tmp_path, workers=2)
    empty.stop()
    assert empty.output.count(f"the store {tmp_path} has no models yet") == 1


def test_a_connection_that_has_said_nothing_yet_is_answered_when_it_does(start_server: Callable[..., Server]) -> None:
    """Its request comes after the service was told to stop and takes no more connections: it is the last one there."""
    leaving = start_server()
    address = (httpx.URL(leaving.url).host, int(httpx.URL(leaving.url).port or 0))
    with socket.create_connection(address, 60) as silent:
        # Connections are accepted in their order: the silent one has been when this one is answered.
        assert leaving.client.get("/health/live", headers={"Connection": "close"}).status_code == 200
        leaving._process.send_signal(signal.SIGTERM)
        while takes_connections(address):
            pass
        silent.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b"".join(iter(lambda: silent.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer


@pytest.mark.slow
def test_no_request_is_lost_while_workers_are_replaced(start_server: Callable[..., Server]) -> None:
    """Callers with connections of all kinds go on asking while both workers are replaced, twice: nobody is let down."""
    several = start_server(workers=2, threads=1)
    over = threading.Event()

    def ask_on(headers: dict[str, str]) -> int:
        with httpx.Client(base_url=several.url, headers=headers, timeout=60) as client:
            answers = 0
            while not over.is_set():
                assert client.post(PATH, json=BODY).status_code == 200
                answers += 1
        return answers

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask_on, headers) for headers in ({}, {"Connection": "close"}) * 3]
        try:
            for _ in range(2):
                old = set(workers_of(several))
                several._process.send_signal(signal.SIGHUP)
                while old & set(workers_of(several)) and not any(asked.done() for asked in asking):
                    several.client.get("/health/live")
        finally:
            over.set()
        assert all(asked.result() for asked in asking)


def test_the_health_command_is_light_and_right(server: Server) -> None:
    """It exits with 0 where the service is ready, having imported nothing that takes long."""
    asked = health(server)
    assert asked.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in asked.stderr.splitlines()}
    assert "service" in imported
    assert not imported & {"torch", "numpy", "pydantic", "pydantic_settings", "fastapi", "uvicorn", "asyncio"}
    listening_on_all = health(server, PENUMBRA_HOST="0.0.0.0")
    assert listening_on_all.returncode == 0


def test_the_health_command_says_what_is_wrong(server: Server) -> None:
    """Nobody there, or nobody that is ready: exit code 1, and why."""
    nobody = health(server, PENUMBRA_PORT="1")
    assert nobody.returncode == 1
    assert re.search(r"^not ready: 127\.0\.0\.1:1: .*refused", nobody.stderr, re.MULTILINE)
    assert nobody.stdout == ""
