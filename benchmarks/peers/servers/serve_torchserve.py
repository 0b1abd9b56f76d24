"""TorchServe: a custom handler with its dynamic batching, two workers. Needs Java.

Run as a script this makes the model archive, writes the configuration and starts the server; TorchServe's workers load
it again, from the archive, as the handler. By default it logs lines for every request; here, as all others, none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlp

_SERVER = """\
inference_address=http://127.0.0.1:{}
management_address=http://127.0.0.1:{}
metrics_address=http://127.0.0.1:{}
initial_worker_port={}
model_store={}
load_models=networks.mar
disable_token_authorization=true
disable_system_metrics=true
job_queue_size=1000
"""
_MODEL = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 32\nmaxBatchDelay: 1\nresponseTimeout: 60\n"
_LOG = """<Configuration><Appenders><Console name="out"/></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>"""


class Handler:
    """Answers batches."""

    def initialize(self, context: Any) -> None:  # noqa: ARG002
        """In each worker."""
        self.networks = mlp.load()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:  # noqa: ARG002
        """A batch of JSON bodies."""
        return mlp.answer_many(self.networks, [item["body"] for item in data])


if __name__ == "__main__":
    ports, folder = [sys.argv[1], *sys.argv[2].split(",")], Path(sys.argv[3])
    model, server, log = folder / "model.yaml", folder / "config.properties", folder / "log4j2.xml"
    model.write_text(_MODEL)
    server.write_text(_SERVER.format(*ports, folder))
    log.write_text(_LOG)
    binaries = Path(sys.executable).parent
    archive = f"torch-model-archiver --model-name networks --version 1 --export-path {folder} --config-file {model}"
    files = ["--handler", __file__, "--extra-files", mlp.__file__]
    os.environ["PATH"] = f"{binaries}:{os.environ['PATH']}"
    os.chdir(folder)
    subprocess.run([*archive.split(), *files], check=True)
    flags = ["--foreground", "--ncs", "--ts-config", str(server), "--log-config", str(log)]
    os.execv(binaries / "torchserve", ["torchserve", *flags])
