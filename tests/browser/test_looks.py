"""For everybody: dark and light, phones, keyboards, screen readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.pages import PHONE, Playground

Open = Callable[..., Playground]
GROUND = "getComputedStyle(document.documentElement).backgroundColor"


def brightness(page: Playground) -> float:
    """Of the page's ground, from 0 to 255."""
    channels: list[float] = page.page.evaluate(f"{GROUND}.match(/[0-9.]+/g).slice(0, 3).map(Number)")
    return sum(channels) / 3


def contrasts(page: Playground, names: list[str]) -> list[float]:
    """Of colours, by the names they have in the style sheet, with the panel's (WCAG 2)."""
    found: list[float] = page.page.evaluate(
        """names => {
             const probe = document.body.appendChild(document.createElement("p"));
             const light = name => {
               probe.style.color = `var(${name})`;
               const [r, g, b] = getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number).map(x => x / 255)
                 .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
               return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
             };
             const ground = light("--panel");
             return names.map(name => Math.max(light(name), ground) / Math.min(light(name), ground));
           }""",
        names,
    )
    return found


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
    page.page.get_by_role("button", name="Theme: system").click()
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_parts_can_be_told_from_the_ground(open_page: Open, scheme: str) -> None:
    """Both parts of the doubt, and the colours of all classes, have a contrast of 3 : 1 with what is behind them."""
    page = open_page("#model=digits", color_scheme=scheme).answered()
    names = ["--epistemic", "--aleatoric", *(f"--class-{index}" for index in range(10))]
    assert min(contrasts(page, names)) >= 3


def test_a_class_has_one_colour(open_page: Open) -> None:
    """Votes, lines of the table and curves of the sweep show a class in the same colour, which no other class has."""
    page = open_page("#model=digits&seed=1").answered()
    colours: dict[str, list[str]] = {}
    for element, part in ((".ballot span", None), (".legend .line", ".swatch"), (".committee tbody tr", ".one")):
        for one in page.page.locator(element).all():
            name = (one.inner_text() or "2").split()[0]  # too few votes for 2 have no words
            shown = (one.locator(part).first if part else one).evaluate(
                "one => { const { stroke, backgroundColor } = getComputedStyle(one);"
                " return stroke === 'none' ? backgroundColor : stroke; }"
            )
            colours.setdefault(name, []).append(shown)
    assert [len(colours[name]) for name in "126"] == [3, 2, 3]
    assert all(len(set(found)) == 1 for found in colours.values())
    assert len({found[0] for found in colours.values()}) == 10


@pytest.mark.parametrize("model", ["digits", "digits-ensemble", "mnist-ff"])
def test_a_pictures_controls_are_all_in_sight(open_page: Open, model: str) -> None:
    """On a screen of 1280 × 900 nothing of what disturbs a picture must be scrolled to."""
    page = open_page(f"#model={model}").answered()
    below = page.page.locator("#inputs").evaluate("inputs => inputs.scrollHeight - inputs.clientHeight")
    assert below <= 1


def test_the_chosen_model_is_in_sight_on_a_phone(open_page: Open) -> None:
    """The list of models is wider than a phone; it opens where the chosen one stands."""
    page = open_page("#model=mnist-ff", **PHONE).answered()
    expect(page.page.get_by_role("link", name="mnist-ff", exact=True)).to_be_in_viewport(ratio=1)


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
    for wanted in ("theme", "in-age", "in-age-slider", "in-seed", "in-dropout", "tab-answer", "in-Sweep-over"):
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
