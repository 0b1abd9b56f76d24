"""Files of keys, made as an operator would."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.access import command


def add(capsys: pytest.CaptureFixture[str], file: Path, name: str, *options: str) -> str:
    """Makes a key with the command: the key."""
    assert command.main(["add", name, "--file", str(file), *options]) == 0
    return capsys.readouterr().out.strip()


def make(file: Path, **scopes: str) -> dict[str, str]:
    """Makes keys of these names, without the command's output: `make(file, reader="read", boss="admin:diabetes")`."""
    from service.access.callers import Scope
    from service.access.keys import Key, hashed, new_secret

    made = {}
    with file.open("a") as opened:
        for name, said in scopes.items():
            granted, _, models = said.partition(":")
            made[name] = new_secret()
            key = Key(
                name=name,
                sha256=hashed(made[name].encode()).hex(),
                scopes=tuple(Scope(one) for one in granted.split(",")),
                models=tuple(models.split(",")) if models else None,
            )
            opened.write(key.line + "\n")
    return made


def bearer(secret: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {secret}"}
