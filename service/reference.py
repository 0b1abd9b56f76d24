"""python -m service.reference FILE: rewrites the table of settings in a page, between its two marks.

The table is made from `settings`, so that it can't say anything else. Knows nothing of what settings do.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from service.settings import SHIPPED_STORE, Settings

_MARKS = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def table() -> str:
    """All settings, as Markdown."""
    lines = ["| flag, variable | default | |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        flag = f"`--{name.replace('_', '-')}`<br>`PENUMBRA_{name.upper()}`"
        lines.append(f"| {flag} | {_default(field)} | {field.description}{_choices(field)} |")
    return "\n".join(lines)


def rewritten(page: str) -> str:
    """A page with its table of settings as it should be."""
    return _MARKS.sub(lambda marks: f"{marks[1]}\n{table()}\n\n{marks[2]}", page)


def _default(field: FieldInfo) -> str:
    if field.default == SHIPPED_STORE:
        return "the models that ship"
    return f"`{field.default}`" if field.default not in ("", None) else "none"


def _choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return " One of " + ", ".join(f"`{choice}`" for choice in get_args(field.annotation)) + "."


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(rewritten(file.read_text()))
