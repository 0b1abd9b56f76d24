"""What is pulled from an object store before workers are forked: nobody waits for it without end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tests.api.live import ROOT

SCRIPT = """
from service.refreshing import refreshed_aside
from service.settings import Settings
print(refreshed_aside(Settings(), lambda: True))
print(refreshed_aside(Settings(), seconds=0.0))
"""


def test_an_object_store_that_does_not_answer_is_not_waited_for() -> None:
    """It takes connections and says nothing: that ends with the service, or when the time is over."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            "PENUMBRA_STORE": "s3://canary/models",
            "AWS_ACCESS_KEY_ID": "canary",
            "AWS_SECRET_ACCESS_KEY": "canary",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
    assert ended.stdout == "the service stops\nit took too long\n"
