"""Peers' virtual environments: made once, below benchmarks/.peers, where git ignores them. Knows nothing of servers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable

from benchmarks.peers.catalogue import ENVIRONMENTS, Peer
from benchmarks.servers import Unavailable

INSTALL_WITHIN = 1800  # seconds
_STAMP = "penumbra-bench.json"


def install(peer: Peer) -> None:
    """Makes the environment, unless it is there as it must be. Raises Unavailable saying what was in the way."""
    if peer.needs and not shutil.which(peer.needs):
        raise Unavailable(f"needs `{peer.needs}` on the PATH (Debian: apt-get install default-jre-headless)")
    stamp = peer.root / _STAMP
    # All of Python's servers run on the same build of it, which makes a third of their speed.
    wanted = json.dumps([sys.version, *peer.requirements])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"  installing {peer.title} into its own environment …", flush=True)
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n")
    _run([sys.executable, "-m", "venv", "--clear", str(peer.root)])
    pip = [str(peer.root / "bin" / "pip"), "--disable-pip-version-check", "--quiet", "install"]
    # torch comes first, so that nothing that depends on it picks another build of it.
    _run([*pip, *(requirement for requirement in peer.requirements if requirement.startswith("torch=="))])
    _run([*pip, *peer.requirements])
    stamp.write_text(wanted)


def versions(peer: Peer, more: Iterable[str] = ("torch",)) -> dict[str, str]:
    """What is installed of the distributions that are worth naming."""
    code = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    names = [*peer.versions, *more]
    said = subprocess.run(
        [str(peer.root / "bin" / "python"), "-c", code, *names], capture_output=True, text=True, check=False, timeout=60
    )
    return dict(zip(names, said.stdout.split(), strict=False))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"can't be installed: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["pip failed"]
        raise Unavailable(f"can't be installed: {errors[0].removeprefix('ERROR: ')[:300]}")
