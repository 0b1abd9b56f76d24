"""python -m service health: asks the service on this machine whether it is ready; exits with 0 if it is.

For health checks of containers, which run it every few seconds: so it imports nothing but the standard library, and
looks up in the environment itself where to ask; `settings` would cost half a second.
"""

from __future__ import annotations

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_TIMEOUT = 2.5  # seconds
# Where a service is asked that listens on all addresses.
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main() -> int:
    """The exit code: 0 when ready, 1 when not, with a line that says why."""
    host = os.environ.get("PENUMBRA_HOST", "")
    address = _LOOPBACK.get(host, host), int(os.environ.get("PENUMBRA_PORT") or 8000)
    if os.environ.get("PENUMBRA_TLS_CERT"):
        # Whether the certificate is the right one for this address is not the question here.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - the standard library's name for just that
        connection: HTTPConnection = HTTPSConnection(*address, timeout=_TIMEOUT, context=context)
    else:
        connection = HTTPConnection(*address, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/health/ready")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        print(f"not ready: {address[0]}:{address[1]}: {error}", file=sys.stderr)  # noqa: T201 - what it is for
        return 1
    finally:
        connection.close()
    if status != 200:
        print(f"not ready: {address[0]}:{address[1]} says {status}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
