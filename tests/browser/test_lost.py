"""A service that dies under the page: it says so, keeps what it has, and goes on when the service is back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.api.live import Server
from tests.api.stores import publish
from tests.browser.pages import PHONE, Playground
from tests.browser.relay import Relay

Open = Callable[..., Playground]


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    """Something between page and service that can be cut."""
    with Relay(server.url) as running:
        yield running


def test_a_service_that_dies_in_the_middle_of_an_answer(open_page: Open, relay: Relay) -> None:
    """The page says how far the answer got and leaves it there; once the service is back it is completed by itself."""
    page = open_page("#model=diabetes", base=relay.url, may_lose_it=True).answered()
    relay.hold_after(3)
    page.type_into("Samples", "5000")
    expect(page.page.locator(".progress")).to_contain_text("96 of 5,000 samples")
    relay.cut()
    alert = page.page.get_by_role("alert")
    expect(alert).to_contain_text("The service stopped answering.")
    expect(alert).to_contain_text("the first 96 of 5,000 samples")
    assert page.page.locator("#answer").get_attribute("data-done") == "false"
    assert "±" in page.text(".head .value")
    relay.mend()
    page.answered()
    expect(alert).to_be_hidden()
    assert "5,000 samples" in page.text(".progress")


def test_trying_again_is_a_button(open_page: Open, relay: Relay) -> None:
    """Who does not want to wait presses it; while the service is gone the page goes on saying so."""
    page = open_page("#model=diabetes", base=relay.url, may_lose_it=True).answered()
    relay.cut()
    page.page.get_by_role("button", name="Another", exact=True).click()
    again = page.page.get_by_role("button", name="Try again")
    again.click()
    expect(page.page.get_by_role("alert")).to_contain_text("stopped answering")
    relay.mend()
    again.click()
    page.answered()
    expect(page.page.get_by_role("alert")).to_be_hidden()


def test_an_answer_of_before_is_seen_to_be_one(open_page: Open, relay: Relay) -> None:
    """On a phone, far down, one sees that nothing was answered; the old answer is faint until there is a new one."""
    page = open_page("#model=digits", base=relay.url, may_lose_it=True, **PHONE).answered()
    relay.cut()
    page.page.get_by_role("button", name="Another", exact=True).click()
    expect(page.page.get_by_role("alert")).to_contain_text("What you see is the previous answer.")
    expect(page.page.get_by_role("alert")).to_be_in_viewport()
    expect(page.page.locator(".brief")).to_be_hidden()
    expect(page.page.locator("#answer")).to_have_class(re.compile("stale"))
    relay.mend()
    page.answered()
    expect(page.page.locator("#answer")).not_to_have_class(re.compile("stale"))


def test_a_service_that_is_gone_from_the_start(open_page: Open, relay: Relay) -> None:
    """The page that was loaded before it went says so when another model is asked for, and opens it once it is back."""
    page = open_page("#model=diabetes", base=relay.url, may_lose_it=True).answered()
    relay.cut()
    page.page.get_by_role("link", name="digits", exact=True).click()
    expect(page.page.get_by_role("alert")).to_contain_text("stopped answering")
    relay.mend()
    expect(page.page.get_by_role("heading", name="Draw or pick")).to_be_visible()
    page.answered()


def test_a_store_without_models(open_page: Open, tmp_path: Path) -> None:
    """The page says so and shows nothing else; the first model that is published is found."""
    server = Server(store=tmp_path)
    try:
        page = open_page(base=server.url)
        expect(page.page.get_by_role("alert")).to_contain_text("No models are being served yet.")
        expect(page.page.locator("#room")).to_be_hidden()
        publish(tmp_path, "first")
        page.answered()
        expect(page.page.get_by_role("alert")).to_be_hidden()
    finally:
        server.stop()


def test_a_fault_of_the_page_is_told(open_page: Open) -> None:
    """A manifest that it can't make sense of leaves words on the page, and other models can still be opened."""
    page = open_page("#model=digits", may_fail=True).answered()
    page.page.route("**/v1/models/diabetes", lambda route: route.fulfill(json={"name": "diabetes"}))
    page.page.get_by_role("link", name="diabetes", exact=True).click()
    expect(page.page.get_by_role("alert")).to_contain_text("This page has a fault and can’t go on")
    page.page.get_by_role("link", name="breast-cancer", exact=True).click()
    page.answered()
    expect(page.page.get_by_role("alert")).to_be_hidden()
