"""/openapi.json is good enough for others: a TypeScript client generated from it compiles, strictly, and works.

The generator is openapi-typescript, the client openapi-fetch; exact versions are in `typescript/package-lock.json`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.live import Server

HERE = Path(__file__).parent / "typescript"
PINS = [HERE / "package.json", HERE / "package-lock.json"]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def modules() -> Path:
    """node_modules with the generator and the compiler, below this environment, made if they aren't there."""
    home = Path(sys.prefix) / "typescript"
    stamp, wanted = home / "penumbra.stamp", hashlib.sha256(b"".join(pin.read_bytes() for pin in PINS)).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        if not shutil.which("npm"):
            pytest.skip("there is no npm here")
        home.mkdir(exist_ok=True)
        for pin in PINS:
            shutil.copy(pin, home)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
            cwd=home, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"the generator can't be installed: {last}")
        stamp.write_text(wanted)
    return home / "node_modules"


def test_a_generated_client_compiles_and_works(server: Server, modules: Path, tmp_path: Path) -> None:
    """Generated from the document as it is served, checked strictly, and asked for what the contract promises.

    The program also has lines that must not compile: were the types loose, that would be an error.
    """
    for name in ("package.json", "tsconfig.json", "program.ts"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "openapi.json").write_bytes(server.client.get("/openapi.json").content)
    generator = modules / "openapi-typescript" / "bin" / "cli.js"
    run("node", generator, "openapi.json", "-o", "schema.ts", cwd=tmp_path)
    run("node", modules / "typescript" / "bin" / "tsc", cwd=tmp_path)
    printed = run("node", "out/program.js", server.url, cwd=tmp_path)
    assert printed.splitlines() == [
        "[ 'regression' ]",
        "1 100",
        "199.856 conformal [ '0.05', '0.95' ]",
        "1",
        "422 inputs[0]",
    ]
