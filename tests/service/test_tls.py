"""HTTPS: served by one process or several, to whoever trusts the certificate, and to nobody without TLS."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.live import ROOT, Server
from tests.api.wire import PREDICT, ROW
from tests.service import certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=[1, 2])
def secure(request: pytest.FixtureRequest, files: tuple[Path, Path]) -> Iterator[Server]:
    """A service of one worker, and one of two."""
    running = Server(workers=request.param, verify=ssl.create_default_context(cafile=str(files[0])), **tls(files))
    yield running
    running.stop()


def tls(files: tuple[Path, Path]) -> dict[str, Path]:
    """The settings."""
    return {"tls_cert": files[0], "tls_key": files[1]}


def test_it_answers_over_tls(secure: Server) -> None:
    """As ever, and to a client that checks the certificate."""
    assert secure.url.startswith("https://")
    answer = secure.client.post(PREDICT, json={"inputs": [ROW]})
    assert answer.status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{secure.url}/health/live")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_old_versions_are_refused(secure: Server) -> None:
    """TLS 1.2 is the least."""
    url = httpx.URL(secure.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    for version, taken in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        with socket.create_connection((url.host, url.port), 60) as connection:
            try:
                with context.wrap_socket(connection) as wrapped:
                    assert taken
                    assert wrapped.version() == "TLSv1.2"
            except ssl.SSLError:
                assert not taken


def test_who_still_sends_gets_the_answer(secure: Server, files: tuple[Path, Path]) -> None:
    """An upload that is refused is heard out here, too: the answer comes, and then the end."""
    url, context = httpx.URL(secure.url), ssl.create_default_context(cafile=str(files[0]))
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with (
        socket.create_connection((url.host, url.port), 60) as connection,
        context.wrap_socket(connection, server_hostname=url.host) as wrapped,
    ):
        wrapped.sendall(f"{head}Content-Length: {1 << 24}\r\n\r\n".encode() + bytes(1 << 24))
        assert wrapped.recv(12) == b"HTTP/1.1 413"


def test_what_is_no_tls_harms_nobody(secure: Server) -> None:
    """Plain HTTP on that port is hung up on, and the next caller is served."""
    url = httpx.URL(secure.url)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{url.host}:{url.port}/health/live")
    assert secure.client.get("/health/live").status_code == 200


def test_the_health_check_follows(secure: Server, files: tuple[Path, Path]) -> None:
    """It sees the same variables, and asks over TLS."""
    environment = {**os.environ, "PENUMBRA_PORT": str(httpx.URL(secure.url).port), "PENUMBRA_TLS_CERT": str(files[0])}
    command = [sys.executable, "-m", "service", "health"]
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
