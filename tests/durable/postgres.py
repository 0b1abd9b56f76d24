"""A real Postgres server in a process of its own, on a free port, for a user who may do little else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.objects import free_ports

_DEBIAN = "/usr/lib/postgresql/*/bin"
_NEVER_ROOT = "nobody"


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty database; skips the test where there is no such program."""
    found = [*Path("/").glob(_DEBIAN.lstrip("/") + "/initdb")]
    initdb = shutil.which("initdb") or (str(max(found)) if found else None)
    if initdb is None:
        pytest.skip("there is no Postgres here: it is Debian's package postgresql")
    programs = Path(initdb).resolve().parent
    # It refuses to run as root.
    user = _NEVER_ROOT if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    # Not where tests have their files: another user may not look there.
    folder = Path(tempfile.mkdtemp(prefix="penumbra-postgres-"))
    shutil.chown(folder, user)
    (port,) = free_ports(1)

    def call(program: str, *words: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *words]
        done = subprocess.run(
            command, user=user, cwd=folder, capture_output=program == "initdb", text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr

    flags = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        call("initdb", "--username=penumbra", "--auth=trust", "--no-sync")
        call("pg_ctl", "--wait", "--silent", f"--log={folder / 'log'}", f"--options={flags}", "start")
        try:
            yield f"postgresql://penumbra@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "--wait", "--silent", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder)
