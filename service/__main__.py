"""python -m service: starts the server, works on jobs, asks after its health, or keeps its keys.

Flags and environment variables are in `settings`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any


def main(arguments: list[str]) -> int:
    """Serves until told to stop; the exit code."""
    if arguments == ["health"]:
        from service import health

        return health.main()
    if arguments[:1] == ["keys"]:
        from service.access import command

        return command.main(arguments[1:])
    # After a graceful stop uvicorn raises the signal once more, for whoever had it before: it shall mean success.
    signal.signal(signal.SIGTERM, _leave)
    # Importing makes hardly any garbage, and looking for it takes a tenth of the time. `app` lets that begin.
    gc.disable()
    # NumPy's own threads would multiply nothing here, and must not be there when workers are forked.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Wrong settings are told before anything heavy is imported.
    from pydantic import ValidationError
    from pydantic_settings import CliApp

    from service.settings import Settings, unknown_variables

    try:
        settings = CliApp.run(Settings, cli_args=arguments[1:] if arguments[:1] in (["serve"], ["jobs"]) else arguments)
    except ValidationError as error:
        from service.complaints import complaints

        sys.exit("\n".join(complaints(error)))
    if mistyped := unknown_variables(os.environ):
        sys.exit("\n".join(f"python -m service: error: {name}" for name in mistyped))
    if arguments[:1] == ["jobs"]:
        from service.durable.alone import alone

        with alone(settings) as directory:
            from service.durable import runner

            return runner.run(settings, directory)
    from service import preflight

    checked = preflight.check(settings)
    from service import serving

    try:
        return serving.serve(*checked)
    except KeyboardInterrupt:
        return 0


def _leave(*_: Any) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
