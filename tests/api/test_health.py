"""Liveness and readiness: what a load balancer and a supervisor ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.inside import client_of, running
from tests.api.live import Server

MONITORED = {"content-length", "x-request-id", "x-content-type-options"}


def test_a_running_service_is_live_and_ready(server: Server) -> None:
    """Both questions are answered with 200 and a plain yes."""
    for path, answer in (("/health/live", {"live": True}), ("/health/ready", {"ready": True})):
        response = server.client.get(path)
        assert response.status_code == 200
        assert response.json() == answer


@pytest.mark.parametrize(
    "path", ["/health/live", "/v2/health/ready", "/metrics", "/v1/models", "/v1/models/diabetes", "/none"]
)
def test_monitors_may_ask_for_the_head_alone(server: Server, path: str) -> None:
    """HEAD has the status and the headers of GET, and no body."""
    whole, head = server.client.get(path), server.client.head(path)
    assert head.status_code == whole.status_code
    assert head.content == b""
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert head.headers.keys() >= MONITORED


def test_what_is_posted_has_no_head(server: Server) -> None:
    """The answer says what there is."""
    refused = server.client.head("/v1/models/diabetes/predict")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")


async def test_it_is_ready_only_between_startup_and_shutdown(tiny_store: Path) -> None:
    """Before the models are loaded and after the last request the service is live, but says 503 to readiness."""
    async with running(store=tiny_store) as (app, client):
        assert (await client.get("/health/ready")).status_code == 200
    async with client_of(app) as client:
        ended = await client.get("/health/ready")
        assert ended.status_code == 503
        assert ended.json() == {"ready": False}
        assert (await client.get("/health/live")).status_code == 200


def test_a_broken_version_does_not_make_the_service_unready(tiny: Server) -> None:
    """A store with corrupt versions in it is served: the others are ready."""
    assert tiny.client.get("/health/ready").status_code == 200


@pytest.mark.slow
def test_sigterm_ends_workers_too(start_server) -> None:
    """With several workers a SIGTERM ends the service, and that counts as success."""
    several = start_server(workers=2, threads=1)
    assert several.client.get("/health/ready").json() == {"ready": True}
    several.stop()  # asserts the exit code
