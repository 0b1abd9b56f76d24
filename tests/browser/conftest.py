"""A real Chromium in front of the real service. Without one that is installed, these tests are skipped.

Each page is watched: it may not complain in its console, throw, or ask anything of any other address.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.api.live import Server
from tests.browser.pages import Playground

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)


# Of a module, not of all: while it runs, its event loop is this thread's, and other tests have loops of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, Chrome or whatever goes by one of these names."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} is on the path")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Playground]]:
    """Opens pages: `open_page("#model=digits", color_scheme="dark")`, with Playwright's options for their contexts."""
    with ExitStack() as opened:

        def open_one(
            address: str = "",
            *,
            base: str = server.url,
            may_lose_it: bool = False,
            may_fail: bool = False,
            **options: Any,
        ) -> Playground:
            options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
            context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
            opened.callback(context.close)
            context.set_default_timeout(15_000)
            page = context.new_page()
            complaints = _watched(page, base)
            # A browser logs every connection that is refused: it is no complaint of the page's.
            expected = [
                *(["error: Failed to load resource"] if may_lose_it else []),
                *(["thrown: "] if may_fail else []),
            ]
            opened.callback(lambda: _assert_quiet(complaints, tuple(expected)))
            page.goto(f"{base}/{address}")
            return Playground(page)

        yield open_one


def _watched(page: Page, base: str) -> list[str]:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"thrown: {error}"))
    page.on(
        "request",
        lambda request: request.url.startswith(base) or complaints.append(f"asked elsewhere: {request.url}"),
    )
    return complaints


def _assert_quiet(complaints: list[str], expected: tuple[str, ...]) -> None:
    assert not [one for one in complaints if not one.startswith(expected or "\0")], complaints
