"""The example of docs/tables.md, from an nn.Sequential to a served answer, as its reader would go through it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.repository import Repository
from tests.docs.test_examples import ROOT, assert_matches, curl_request

PAGE = (ROOT / "docs" / "tables.md").read_text()
_SECTION = PAGE[PAGE.index("### Names, units, ranges and calibration") : PAGE.index("## Back to PyTorch")]
_PYTHON = ".venv/bin/python "
_SERVE = "-m service"
# A network is trained, and other processors round otherwise.
_RELATIVE = 0.05


def blocks(kind: str) -> list[str]:
    """The section's blocks of code of a kind."""
    return re.findall(rf"```{kind}\n(.*?)```", _SECTION, re.DOTALL)


def run(line: str, folder: Path) -> None:
    """One of the commands, with this Python and this checkout."""
    done = subprocess.run(
        [sys.executable, *shlex.split(line.removeprefix(_PYTHON), comments=True)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_from_a_network_to_an_answer(tmp_path: Path, start_server: Callable[..., Any]) -> None:
    """The program, the commands and the request do what the page says, and so does what undoes them."""
    (program,), (commands, request, undoing), (answer,) = blocks("python"), blocks("bash"), blocks("json")
    (tmp_path / "felt.py").write_text(program)
    lines = commands.splitlines()
    assert [_SERVE in line for line in lines] == [False, False, False, True]
    for line in lines[:-1]:
        run(line, tmp_path)
    store = Repository(tmp_path / "mymodels")
    assert store.versions("felt") == ("1", "2")
    _, path, headers, body = curl_request(request)
    response = start_server(store=store.root).client.post(path, content=body, headers=headers)
    assert_matches(response.json(), json.loads(answer), "$", _RELATIVE)
    pin, remove = undoing.splitlines()
    run(pin, tmp_path)
    assert store.look()["felt"].pinned == "1"
    _, _, folder, *_ = shlex.split(remove, comments=True)
    shutil.rmtree(tmp_path / folder)
    assert store.versions("felt") == ("1",)
