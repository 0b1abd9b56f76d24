"""The reference configuration of nginx, run before the real service: callers see one service, over TLS."""

from __future__ import annotations

import getpass
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from tests.access.keys import bearer, make
from tests.api.live import ROOT, Server
from tests.api.wire import PREDICT, ROW, SAMPLE, assert_problem
from tests.service import certificates

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx here")
CONFIGURATION = (ROOT / "deploy" / "nginx" / "penumbra.conf").read_text()
AROUND = """
user {user}; daemon off; pid {folder}/pid; error_log stderr error; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/penumbra.conf;
}}
"""


class Nginx:
    """Nginx with the configuration, before a service."""

    def __init__(self, folder: Path, upstream: str) -> None:
        certificate, key = certificates.make(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        said = CONFIGURATION
        for word, value in (
            ("UPSTREAM", upstream),
            ("LISTEN", f"127.0.0.1:{port}"),
            ("NAME", "localhost"),
            ("CERTIFICATE", certificate),
            ("KEY", key),
        ):
            said = said.replace(f" {word}", f" {value}")
        (folder / "penumbra.conf").write_text(said)
        (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=getpass.getuser()))
        self._process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
        context = ssl.create_default_context(cafile=str(certificate))
        self.url = f"https://localhost:{port}"
        self.client = httpx.Client(base_url=self.url, verify=context, timeout=60)
        while self._process.poll() is None:
            try:
                self.client.get("/health/live")
            except httpx.ConnectError:
                continue
            break

    def stop(self) -> None:
        """Ends it."""
        self.client.close()
        self._process.terminate()
        assert self._process.wait(60) == 0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    """The service behind it, and its keys."""
    file = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    made = make(file, alice="read,infer")
    running = Server(keys_file=file, allowed_hosts="localhost", workers=2)
    yield running, made
    running.stop()


@pytest.fixture(scope="module")
def nginx(guarded: tuple[Server, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """In front."""
    running = Nginx(tmp_path_factory.mktemp("nginx"), guarded[0].url.removeprefix("http://"))
    yield running
    running.stop()


def test_an_answer_passes_unchanged(nginx: Nginx, guarded: tuple[Server, dict[str, str]]) -> None:
    """The same bytes and the same tag as from the service itself; ids go through, in both directions."""
    server, keys = guarded
    headers = {**bearer(keys["alice"]), "X-Request-ID": "mine"}
    direct = {**headers, "Host": "localhost"}
    body = {"inputs": [ROW], "seed": 7}
    through, own = (
        client.post(SAMPLE, json=body, headers=sent)
        for client, sent in ((nginx.client, headers), (server.client, direct))
    )
    assert through.status_code == 200
    assert through.content == own.content
    assert through.headers["etag"] == own.headers["etag"]
    assert through.headers["x-request-id"] == "mine"
    assert through.headers["strict-transport-security"]
    made = nginx.client.post(PREDICT, json={"inputs": [ROW]}, headers=bearer(keys["alice"])).headers["x-request-id"]
    assert len(made) == 32


def test_refusals_are_the_services(nginx: Nginx, guarded: tuple[Server, dict[str, str]]) -> None:
    """Keys are asked for behind it; bodies that are too large do not get there, and the answer has the same form."""
    assert_problem(nginx.client.post(SAMPLE, json={}), 401)
    large = nginx.client.post(
        SAMPLE,
        content=b" " * (4 * 2**20 + 1),
        headers={**bearer(guarded[1]["alice"]), "Content-Type": "application/json"},
    )
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")
    assert large.json().items() >= {"status": 413, "detail": "the body is too large", "errors": []}.items()
    largest = nginx.client.post(
        SAMPLE,
        content=b" " * (4 * 2**20 - 2) + b"{}",
        headers={**bearer(guarded[1]["alice"]), "Content-Type": "application/json"},
    )
    assert_problem(largest, 422)


def test_metrics_are_not_for_callers(nginx: Nginx, guarded: tuple[Server, dict[str, str]]) -> None:
    """Not even with a key."""
    assert nginx.client.get("/metrics", headers=bearer(guarded[1]["alice"])).status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"Host: localhost\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_nothing_is_smuggled_through(nginx: Nginx, sent: bytes) -> None:
    """What can be read in two ways is refused, by one or the other, and the connection closed."""
    url = httpx.URL(nginx.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    head = b"POST /v1/models/diabetes/sample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((url.host, url.port), 60) as plain, context.wrap_socket(plain) as wire:
        wire.sendall(head + sent)
        said = b""
        while chunk := wire.recv(1 << 16):
            said += chunk
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))
    assert said.count(b"HTTP/1.1 ") == 1


def test_a_service_that_is_away_is_told(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """As a problem, with a time to come back."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        running = Nginx(tmp_path, f"127.0.0.1:{nobody.getsockname()[1]}")
        answer = running.client.get("/v1/models")
        running.stop()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert orjson.loads(answer.content)["detail"] == "the service does not answer"
