"""python -m service keys: makes, lists and removes API keys in a file. A running service takes note within a second.

Files are changed in place: one that is mounted into a container alone would else stay there as it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from service.access.callers import Scope
from service.access.keys import Key, WrongKeys, hashed, new_secret, parse, said

_PROGRAM = "python -m service keys"
_NAMES = (
    "a name has letters, digits, dots, dashes and underscores, begins with a letter or digit, and is at most 64 long"
)


def main(arguments: list[str]) -> int:
    """The exit code."""
    asked = _parser().parse_args(arguments)
    file = Path(asked.file) if asked.file else None
    if file is None:
        print(f"{_PROGRAM}: error: which file? Set --file (or PENUMBRA_KEYS_FILE)", file=sys.stderr)  # noqa: T201
        return 2
    do: Callable[[Path, argparse.Namespace], str] = asked.do
    try:
        told = do(file, asked)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        found = _NAMES if first["type"] == "string_pattern_mismatch" else said(first["msg"])
        told, message = "", f"{str(first['loc'][0]) if first['loc'] else 'key'}: {found}"
    except WrongKeys as error:
        told, message = "", str(error)
    except OSError as error:
        told, message = "", f"{file}: {error.strerror}"
    else:
        message = ""
    if message:
        print(f"{_PROGRAM}: error: {message}", file=sys.stderr)  # noqa: T201 - what it is for
        return 1
    if told:
        print(told)  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="API keys: only their hashes are kept.")
    verbs = parser.add_subparsers(required=True, metavar="add | list | remove")
    add = verbs.add_parser("add", help="make a key, and print it: it is not shown again")
    add.add_argument("name", help="what it is called in lists and logs")
    add.add_argument(
        "--scopes", default="read,infer", help="what it may: of read, infer, admin; read,infer unless it is said"
    )
    add.add_argument("--models", help="the models that it is for, with commas between; all unless it is said")
    add.add_argument("--rate", default="", help="how often it may ask: 10/second, 500/minute; any unless it is said")
    shown = verbs.add_parser("list", help="what is known of each key")
    remove = verbs.add_parser("remove", help="take a key away")
    remove.add_argument("name")
    for verb, do in ((add, _add), (shown, _list), (remove, _remove)):
        verb.set_defaults(do=do)
        verb.add_argument("--file", default=os.environ.get("PENUMBRA_KEYS_FILE", ""), help="or PENUMBRA_KEYS_FILE")
    return parser


def _add(file: Path, asked: argparse.Namespace) -> str:
    """The key."""
    keys = _read(file) if file.exists() else []
    if any(key.name == asked.name for key in keys):
        raise WrongKeys(f"{file}: there is a key of that name already: remove it first, or take another name")
    unknown = set(asked.scopes.split(",")) - {scope.value for scope in Scope}
    if unknown:
        raise WrongKeys("--scopes must be some of read,infer,admin")
    secret = new_secret()
    key = Key(
        name=asked.name,
        sha256=hashed(secret.encode()).hex(),
        scopes=tuple(scope for scope in Scope if scope.value in asked.scopes.split(",")),
        models=tuple(asked.models.split(",")) if asked.models is not None else None,
        rate=asked.rate,
    )
    before = file.read_text("utf-8") if file.exists() else ""
    _write(file, f"{before.rstrip()}\n{key.line}\n".lstrip())
    return secret


def _list(file: Path, _: argparse.Namespace) -> str:
    """A line for each."""
    rows = [("NAME", "SCOPES", "MODELS", "RATE", "SHA-256")]
    for key in _read(file):
        models = "all" if key.models is None else ",".join(key.models)
        rows.append((key.name, ",".join(key.scopes), models, key.rate or "any", key.sha256[:12] + "…"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _remove(file: Path, asked: argparse.Namespace) -> str:
    """Nothing."""
    keys = _read(file)
    if all(key.name != asked.name for key in keys):
        raise WrongKeys(f"{file}: there is no key of that name")
    text = file.read_text("utf-8").splitlines(keepends=True)
    _write(file, "".join(line for line in text if asked.name not in (key.name for key in parse(line, str(file)))))
    return ""


def _read(file: Path) -> list[Key]:
    return parse(file.read_text("utf-8"), str(file))


def _write(file: Path, text: str) -> None:
    """In place, and cut off last: whoever reads meanwhile finds whole lines, or a line that is refused as a whole."""
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as opened:
        opened.write(text.encode())
        opened.truncate()
        opened.flush()
        os.fsync(opened.fileno())
