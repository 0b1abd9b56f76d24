"""For everybody: dark and light, phones, keyboards, screen readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.pages import Playground

Open = Callable[..., Playground]
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
GROUND = "getComputedStyle(document.documentElement).backgroundColor"


def brightness(page: Playground) -> float:
    """Of the page's ground, from 0 to 255."""
    channels: list[float] = page.page.evaluate(f"{GROUND}.match(/[0-9.]+/g).slice(0, 3).map(Number)")
    return sum(channels) / 3


def test_it_is_as_dark_as_the_system(open_page: Open) -> None:
    """Ground and chart follow the system's scheme, also while the page is open."""
    page = open_page("#model=diabetes", color_scheme="dark").answered()
    dark = page.picture()
    assert brightness(page) < 40
    page.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    assert brightness(page) > 220
    assert page.picture() != dark


def test_the_theme_can_be_chosen_and_is_kept(open_page: Open) -> None:
    """The button goes from the system's theme to light, to dark and back; the choice outlives the page."""
    page = open_page("#model=digits", color_scheme="light").answered()
    light = page.picture()
    page.page.get_by_role("button", name="Theme: as the system").click()
    page.page.get_by_role("button", name="Theme: light").click()
    assert brightness(page) < 40
    assert page.picture() != light
    page.page.reload()
    page.answered()
    assert brightness(page) < 40
    page.page.get_by_role("button", name="Theme: dark").click()
    assert brightness(page) > 220


@pytest.mark.parametrize("model", ["diabetes", "breast-cancer", "digits"])
@pytest.mark.parametrize("view", ["answer", "calibration", "model"])
def test_it_fits_a_phone(open_page: Open, model: str, view: str) -> None:
    """At 360 pixels nothing sticks out; what is wider scrolls by itself."""
    page = open_page(f"#model={model}&view={view}", **PHONE).answered()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    sticking: list[str] = page.page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter(one => {
             const box = one.getBoundingClientRect();
             return box.width && box.right > 361 && !one.closest(".scroll, .models, svg, .unseen, pre");
           }).map(one => one.outerHTML.slice(0, 120))"""
    )
    assert sticking == []


def test_a_finger_moves_a_slider_and_sees_the_answer(open_page: Open) -> None:
    """Far down among the inputs the answer still stands at the top of the screen."""
    page = open_page("#model=diabetes", **PHONE).answered()
    slider = page.field("s6, slider")
    slider.scroll_into_view_if_needed()
    before = page.text(".brief")
    box = slider.bounding_box()
    assert box is not None
    page.page.touchscreen.tap(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
    page.answered()
    assert float(page.field("s6").input_value()) > 0.1
    assert page.text(".brief") != before
    shown = page.page.locator(".brief").bounding_box()
    assert shown is not None
    assert 0 <= shown["y"] < 60


def test_keys_alone_are_enough(open_page: Open) -> None:
    """Skip to the answer, walk the tabs with arrows, slide, type, draw, and copy, without any pointer."""
    page = open_page("#model=digits&seed=1").answered()
    keys = page.page.keyboard
    keys.press("Tab")
    expect(page.page.get_by_role("link", name="Skip to the answer")).to_be_focused()
    keys.press("Enter")
    keys.press("Tab")
    expect(page.page.get_by_role("tab", name="Answer")).to_be_focused()
    keys.press("ArrowRight")
    expect(page.page.get_by_role("tab", name="Calibration")).to_be_focused()
    expect(page.page.locator("#panel-calibration")).to_be_visible()
    keys.press("Home")
    expect(page.page.locator("#panel-answer")).to_be_visible()
    for _ in range(40):  # round to the other side, where the pad is
        keys.press("Shift+Tab")
        if page.page.evaluate("document.activeElement.matches('canvas.pad')"):
            break
    before = page.summary()[0]["inputs"][0]
    keys.press("ArrowLeft")
    keys.press("ArrowUp")
    keys.press(" ")
    page.answered()
    after = page.summary()[0]["inputs"][0]
    assert [at for at in range(64) if after[at] != before[at]]
    keys.press("Backspace")
    page.answered()
    page.field("Turn, slider").focus()
    keys.press("ArrowRight")
    page.answered()
    assert page.field("Turn (°)").input_value() == "5"
    page.page.get_by_role("button", name="Copy as curl").focus()
    keys.press("Enter")
    expect(page.page.locator("#spoken")).to_contain_text("Copied the curl command")


def test_every_control_can_be_reached_and_is_seen_to_be(open_page: Open) -> None:
    """Tab goes through all that can be used, each with a visible sign of where one is."""
    page = open_page("#model=diabetes").answered()
    page.page.locator("body").focus()
    reached: list[str] = []
    for _ in range(80):
        page.page.keyboard.press("Tab")
        here: dict[str, Any] = page.page.evaluate(
            """() => { const one = document.activeElement, style = getComputedStyle(one);
                 const near = [one, one.nextElementSibling].filter(Boolean).map(each => getComputedStyle(each));
                 const sign = near.some(each => each.outlineStyle !== "none" || each.boxShadow !== "none")
                   || one.matches("input[type=range], #answer, body");
                 return {what: one.id || one.textContent.slice(0, 30) || one.ariaLabel || one.tagName, sign}; }"""
        )
        assert here["sign"], f"{here['what']} does not show that it has the focus"
        reached.append(here["what"])
    for wanted in ("theme", "in-age", "in-age-slider", "in-seed", "in-what-if", "tab-answer", "in-Sweep-over"):
        assert wanted in reached, wanted


def test_the_answer_is_read_aloud_once_it_is_there(open_page: Open) -> None:
    """The status has the whole sentence; the chart has a name; tables have heads."""
    page = open_page("#model=diabetes").answered()
    expect(page.page.locator("#spoken")).to_contain_text("progression: 145 plus or minus 55 score.")
    assert page.page.get_by_role("img", name="Chart. progression over bmi").count() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "scheme", "options"),
    [("diabetes", "light", {}), ("breast-cancer", "dark", {}), ("digits", "dark", PHONE)],
)
def test_axe_finds_nothing_serious(open_page: Open, model: str, scheme: str, options: dict[str, Any]) -> None:
    """On each tab, wide and narrow, light and dark: no finding that is serious or critical."""
    page = open_page(f"#model={model}", color_scheme=scheme, bypass_csp=True, **options).answered()
    for tab in ("Answer", "Calibration", "Model"):
        page.page.get_by_role("tab", name=tab).click()
        found = Axe().run(page.page).response
        assert len(found["passes"]) > 10
        grave = [
            (one["id"], [node["html"][:150] for node in one["nodes"]])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert grave == [], tab
