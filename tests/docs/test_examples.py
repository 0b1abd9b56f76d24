"""Every example in the README and the docs, executed: Python as doctests, clients and curl against the real service."""

from __future__ import annotations

import doctest
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ADDRESS = "http://127.0.0.1:8000"
_KSERVE = re.compile(r"```python\n([^`]*?from kserve import[^`]*?)```\n+```text\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"```bash\n(?:\.venv/bin/)?(penumbra [^`]*?)```\n+```text\n(.*?)```", re.DOTALL)
_CURL = re.compile(r"```bash\n(curl [^`]*?)```\n+```json\n(.*?)```", re.DOTALL)
# Answers are shown as one machine gave them; another kind of processor may differ in the last digits.
_RELATIVE = 1e-3
# Those of docs/tables.md are about a model that its reader makes: test_own_models.py.
_ELSEWHERE = "tables.md"
# Those of docs/jobs.md need somebody who works on jobs: tests/durable/test_client.py.
DOCTESTED = [page for page in PAGES if ">>>" in page.read_text() and page.name != "jobs.md"]


def curl_examples() -> list[Any]:
    """All curl commands that are followed by their answer."""
    return [
        pytest.param(command, answer, id=f"{page.name}-{number}")
        for page in PAGES
        if page.name != _ELSEWHERE
        for number, (command, answer) in enumerate(_CURL.findall(page.read_text()), start=1)
    ]


def curl_request(command: str) -> tuple[str, str, dict[str, str], str | None]:
    """What a curl command of the examples sends: method, path, headers, body."""
    _, *words = shlex.split(command.replace("\\\n", " "))
    address = next(word for word in words if word.startswith(ADDRESS))
    body = words[words.index("-d") + 1] if "-d" in words else None
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    known = {"-s", "-d", "-H", "-X", "POST", address, body, *(f"{name}: {value}" for name, value in headers.items())}
    assert set(words) <= known, "this example uses a flag of curl that the test does not know"
    return "GET" if body is None and "POST" not in words else "POST", address.removeprefix(ADDRESS), headers, body


@pytest.mark.parametrize("page", DOCTESTED, ids=lambda page: page.name)
def test_python_examples_print_what_they_say(page: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Python example of a page, run from the repository's root, prints what stands below it."""
    monkeypatch.chdir(ROOT)
    test = doctest.DocTestParser().get_doctest(at(server, page.read_text()), {}, page.name, str(page), 0)
    report: list[str] = []
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(report)


@pytest.mark.parametrize(
    ("program", "printed"),
    [pytest.param(*found, id=page.name) for page in PAGES for found in _KSERVE.findall(page.read_text())],
)
def test_examples_of_the_kserve_sdk_print_what_they_say(
    server: Any, kserve_python: Path, program: str, printed: str
) -> None:
    """The SDK's examples are programs of their own, in the SDK's environment."""
    done = subprocess.run([str(kserve_python), "-c", at(server, program)], capture_output=True, text=True, check=False)
    assert done.stdout == printed, done.stderr


@pytest.mark.parametrize(
    ("command", "printed"),
    [pytest.param(*found, id=page.name) for page in PAGES for found in _COMMAND.findall(page.read_text())],
)
def test_examples_of_the_command_line_print_what_they_say(server: Any, command: str, printed: str) -> None:
    """Each command, run in a shell's environment that says where the service is."""
    words = [sys.executable, "-m", *shlex.split(command.replace("\\\n", " "))]
    environment = {**os.environ, "PENUMBRA_URL": server.url, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.stdout == printed, done.stderr


def at(server: Any, text: str) -> str:
    """An example with the address of this server in place of the usual one."""
    return text.replace(ADDRESS.removeprefix("http://"), server.url.removeprefix("http://"))


@pytest.mark.parametrize(("command", "answer"), curl_examples())
def test_curl_examples_answer_what_they_say(server: Any, command: str, answer: str) -> None:
    """Each curl line gives the answer that stands below it; `…` stands for anything."""
    method, path, headers, body = curl_request(command)
    response = server.client.request(method, path, content=body, headers=headers)
    assert_matches(response.json(), json.loads(answer), "$")


def assert_matches(got: Any, shown: Any, where: str, relative: float = _RELATIVE) -> None:
    """Equal, but for numbers that are merely close, and for what `…` stands for."""
    if shown in ("…", ["…"]):
        return
    if isinstance(shown, dict):
        if "…" in shown:  # {"…": "…"} or more fields than are shown
            shown = {name: value for name, value in shown.items() if name != "…"}
            assert shown.keys() <= got.keys(), where
        else:
            assert got.keys() == shown.keys(), where
        for name, value in shown.items():
            assert_matches(got[name], value, f"{where}.{name}", relative)
    elif isinstance(shown, list):
        cut = shown[:-1] if shown and shown[-1] == "…" else shown
        assert len(got) >= len(cut) if cut is not shown else len(got) == len(shown), where
        for place, value in enumerate(cut):
            assert_matches(got[place], value, f"{where}[{place}]", relative)
    elif isinstance(shown, float):
        assert math.isclose(got, shown, rel_tol=relative, abs_tol=1e-6), where
    elif isinstance(shown, str) and shown.endswith("…"):
        assert got.startswith(shown[:-1]), where
    else:
        assert got == shown, where


def test_every_page_is_linked() -> None:
    """The README links every page of the docs, and no page links to a file that is not there."""
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in readme, f"{page.name} is not linked from the README"
    for page in [*PAGES, *(ROOT / "docs" / "decisions").glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
