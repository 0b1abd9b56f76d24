"""Tables that can't be used: each is refused in one line that says where and what to do, and nothing is published."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from typer.testing import CliRunner

from models.__main__ import app
from models.repository import Repository
from tests.models.tables.broken import BROKEN

PAGE = Path(__file__).resolve().parents[3] / "docs" / "tables.md"


@pytest.mark.parametrize(
    ("name", "content", "options", "message"), [each[1:] for each in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_a_broken_table(name, content, options, message, tmp_path, monkeypatch):
    """One line on the error stream and exit code 1; or, where it is no matter, a model."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    brief = ["--store", "store", "--epochs", "1", "--hidden", "4"]
    result = CliRunner().invoke(app, ["train", name, *options, *brief], prog_name="python -m models")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    published = Repository(Path("store")).names()
    if message is None:
        assert (result.exit_code, published) == (0, ("t",))
        return
    assert (result.exit_code, published) == (1, ())
    assert click.unstyle(result.stderr) == f"error: {message}\n"


@pytest.mark.parametrize("message", [each[-1] for each in BROKEN if each[-1]])
def test_the_page_about_tables_has_the_message(message):
    """What the documentation says of broken tables is what they get."""
    assert f"`{message}`" in PAGE.read_text()
