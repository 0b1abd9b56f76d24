"""Where the service wants a key, the page asks for one, sends it, and shows it to nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.access.keys import make
from tests.api.live import Server
from tests.browser.pages import Playground

Open = Callable[..., Playground]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of keys, and the keys."""
    file = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    return file, make(file, guest="read,infer:diabetes,digits", reader="read")


@pytest.fixture(scope="module")
def guarded(keys: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    """A service that asks for keys."""
    running = Server(keys_file=keys[0])
    yield running
    running.stop()


def give(page: Playground, key: str) -> None:
    """Types a key into the field that asks for it."""
    page.field("API key").fill(key)
    page.page.get_by_role("button", name="Unlock").click()


def test_it_asks_for_a_key_until_one_is_good(
    open_page: Open, guarded: Server, keys: tuple[Path, dict[str, str]]
) -> None:
    """No key, an unknown one and one that may not are each said; with a good one the page goes on where it was."""
    page = open_page("#model=digits&seed=4", base=guarded.url, may_lose_it=True)
    alert = page.page.get_by_role("alert")
    expect(alert).to_contain_text("This service needs an API key (scopes read and infer). Paste yours:")
    expect(page.page.locator("#room")).to_be_hidden()
    expect(page.field("API key")).to_be_focused()
    assert not Axe().run(page.page, context="#trouble").response["violations"]
    give(page, "pen_canary")
    expect(alert).to_contain_text("That key is not known.")
    give(page, keys[1]["reader"])
    expect(alert).to_contain_text("this key has no scope infer")
    give(page, keys[1]["guest"])
    page.answered()
    expect(alert).to_be_hidden()
    assert page.field("Seed").input_value() == "4"


def test_the_key_stays_with_the_tab(open_page: Open, guarded: Server, keys: tuple[Path, dict[str, str]]) -> None:
    """It is asked for once, is sent to this service alone, sees its models alone, and is in no link or command."""
    key = keys[1]["guest"]
    page = open_page("#model=diabetes", base=guarded.url, may_lose_it=True)
    give(page, key)
    page.answered()
    page.page.reload()
    page.answered()
    assert page.page.get_by_label("Models").get_by_role("link").all_inner_texts() == ["diabetes", "digits"]
    for button in ("Copy link", "Copy as curl"):
        assert key not in page.copied(button)
    other = open_page("#model=diabetes", base=guarded.url, may_lose_it=True)
    expect(other.page.get_by_role("alert")).to_contain_text("needs an API key")


def test_copied_commands_take_the_key_from_the_environment(
    open_page: Open, guarded: Server, keys: tuple[Path, dict[str, str]]
) -> None:
    """PENUMBRA_API_KEY, as for the command line."""
    page = open_page("#model=diabetes&samples=30", base=guarded.url, may_lose_it=True)
    give(page, keys[1]["guest"])
    page.answered()
    environment = {**os.environ, "PENUMBRA_API_KEY": keys[1]["guest"]}
    curl = ["bash", "-euc", page.copied("Copy as curl")]
    assert page.summary()[2] in subprocess.run(curl, env=environment, check=True, capture_output=True).stdout
    page.field("Python").check()
    program = [sys.executable, "-c", page.copied("Copy as Python") + "\nprint(answer['seed'])"]
    assert subprocess.run(program, env=environment, check=True, capture_output=True).stdout == b"7\n"
