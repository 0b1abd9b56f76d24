"""python -m service: starts the server. Flags and environment variables are those of `settings`."""

from __future__ import annotations

import sys

import uvicorn
from pydantic_settings import CliApp

from service.settings import Settings


def main(arguments: list[str]) -> None:
    """Serves until told to stop."""
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    settings = CliApp.run(Settings, cli_args=arguments)
    settings.export()  # worker processes read the same settings from the environment
    uvicorn.run(
        "service.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
