"""python -m service: starts the server. Flags and environment variables are those of `settings`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.settings import Settings
from service.telemetry import logs

# A file system in memory, where there is one: what is counted shall never wait for a disk.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it


def main(arguments: list[str]) -> None:
    """Serves until told to stop."""
    # After a graceful stop uvicorn raises the signal once more, for whoever had it before: it shall mean success.
    signal.signal(signal.SIGTERM, _leave)
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    try:
        settings = CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        sys.exit("\n".join(_complaints(error)))
    with _metrics_dir(settings) as directory:
        # Worker processes read the same settings from the environment.
        settings.model_copy(update={"metrics_dir": directory}).export()
        uvicorn.run(
            "service.app:create_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.worker_processes,
            log_config=logs.configuration(settings.log_format, settings.log_level),
            log_level=settings.log_level,
            access_log=False,  # there is one of our own
            server_header=False,
            # Nothing here depends on who or where a caller is, so that nobody has to be believed about it.
            proxy_headers=False,
            timeout_graceful_shutdown=30,
        )


@contextmanager
def _metrics_dir(settings: Settings) -> Iterator[str]:
    """Where workers share what they count: as it is set, or a directory that is gone in the end."""
    if settings.metrics_dir or not settings.metrics:
        yield settings.metrics_dir
        return
    try:
        in_memory = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
        directory = TemporaryDirectory(prefix="penumbra-", dir=in_memory, ignore_cleanup_errors=True)
    except OSError as error:
        sys.exit(
            f"python -m service: error: there is no place for the workers' counts ({error.strerror}): "
            "set --metrics-dir (or PENUMBRA_METRICS_DIR), or --metrics off"
        )
    with directory as path:
        yield path


def _leave(*_: Any) -> None:
    sys.exit(0)


def _complaints(error: ValidationError) -> list[str]:
    """What is wrong with which setting, by its flag and its variable."""
    return [
        f"python -m service: error: --{name.replace('_', '-')} (or PENUMBRA_{name.upper()}): {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
        for name in [str(item["loc"][0])]
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
