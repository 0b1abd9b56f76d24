"""python -m service: starts the server. Flags and environment variables are those of `settings`."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.settings import Settings


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
    with ExitStack() as stack:
        if settings.worker_processes > 1:
            settings = settings.model_copy(update={"state_dir": _state(settings.state_dir, stack)})
        _serve(settings)


def _state(within: Path | None, stack: ExitStack) -> Path | None:
    """A directory for this run alone: what an earlier one agreed on is over. None where nothing can be written."""
    try:
        return Path(stack.enter_context(TemporaryDirectory(prefix="penumbra-", dir=within)))
    except OSError as error:
        print(f"python -m service: models can't be loaded or unloaded while serving: {error}", file=sys.stderr)  # noqa: T201
        return None


def _serve(settings: Settings) -> None:
    settings.export()  # worker processes read the same settings from the environment
    uvicorn.run(
        "service.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.worker_processes,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        # Nothing here depends on who or where a caller is, so that nobody has to be believed about it.
        proxy_headers=False,
        timeout_graceful_shutdown=30,
    )


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
