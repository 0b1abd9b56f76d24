"""Settings that can't be used are told here, in a line, before anything heavy is imported; and the address is taken.

Knows nothing of how it is served.
"""

from __future__ import annotations

import errno
import ssl
import sys
from importlib.util import find_spec
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET, gaierror, socket
from typing import NamedTuple, NoReturn

from service import durable
from service.access.access import Access, new_access
from service.access.keys import WrongKeys
from service.api.guard import LOCAL
from service.settings import Settings


class Checked(NamedTuple):
    """Settings that can be used, who has access (None: all), and a socket that is bound, and does not listen yet."""

    settings: Settings
    access: Access | None
    listening: socket


def check(settings: Settings) -> Checked:
    """The settings, with the hosts that go with their address; ends the process where they can't be used."""
    access = _access(settings)
    if settings.redis_url and find_spec("redis") is None:
        _end("--redis-url (or PENUMBRA_REDIS_URL): needs redis-py: install the extra redis")
    if settings.jobs_dir is not None and not durable.is_installed():
        _end("--jobs-dir (or PENUMBRA_JOBS_DIR): needs DBOS: install the extra jobs")
    if settings.tls_cert:
        _try_certificate(settings)
    if access is None and not settings.loopback and not settings.allow_anonymous:
        _end(
            f"others can reach {settings.host}, and there are no keys. Make one with "
            "`python -m service keys add NAME --file keys.jsonl` and set --keys-file keys.jsonl (or "
            "PENUMBRA_KEYS_FILE); or let everybody ask: --allow-anonymous true (or PENUMBRA_ALLOW_ANONYMOUS)"
        )
    if settings.loopback and not settings.allowed_hosts:
        settings = settings.model_copy(update={"allowed_hosts": LOCAL})
    return Checked(settings, access, _bound(settings.host, settings.port))


def access_of(settings: Settings) -> Access | None:
    """Who may ask, as the settings say; None: everybody. Raises WrongKeys."""
    return new_access(settings.keys, settings.keys_file, settings.jwt_keys, settings.jwt_issuer, settings.jwt_audience)


def _access(settings: Settings) -> Access | None:
    _look_for("keys-file", settings.keys_file)
    try:
        return access_of(settings)
    except WrongKeys as error:
        _end(str(error))


def _try_certificate(settings: Settings) -> None:
    _look_for("tls-cert", settings.tls_cert)
    _look_for("tls-key", settings.tls_key)
    try:
        # An encrypted key would be asked for its password, and nobody is there to answer.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(settings.tls_cert, settings.tls_key or None, password="")
    except (OSError, ValueError) as error:
        files = " and ".join(filter(None, (settings.tls_cert, settings.tls_key)))
        _end(f"--tls-cert, --tls-key: {files} can't be used: {error}")


def _look_for(flag: str, file: str) -> None:
    if file and not Path(file).exists():
        _end(f"--{flag} (or PENUMBRA_{flag.upper().replace('-', '_')}): there is no file {file}")


def _bound(host: str, port: int) -> socket:
    """A socket for this address, which nobody else has. It does not listen yet, so that nobody waits for an answer."""
    bound = socket(AF_INET6 if ":" in host else AF_INET)
    bound.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    bound.set_inheritable(True)
    try:
        bound.bind((host, port))
    except gaierror as error:
        _end(f"--host (or PENUMBRA_HOST): {host}: {error.strerror}")
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            _end(f"{where} is in use by another process: choose another --port (make serve PORT=…)")
        _end(f"--host, --port: {where}: {error.strerror}")
    return bound


def _end(complaint: str) -> NoReturn:
    sys.exit(f"python -m service: error: {complaint}")
