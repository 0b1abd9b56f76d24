"""Links and commands that get what is on the screen: the same pixels, the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.pages import Playground

Open = Callable[..., Playground]
QUESTIONS = (
    "#model=diabetes&x=0.04,0.05,0.06,0.02,-0.04,-0.03,-0.04,0,0.02,-0.02&sweep=s5&seed=12&samples=150&interval=0.8",
    "#model=breast-cancer&p=0.45&output=benign&sweep=worst+area&seed=9007199254740991",
    "#model=digits&x=-20,0.15,0.1&sweep=noise&seed=1&samples=30",
    "#model=digits-ensemble&method=ensemble&seed=1&samples=30",
)


def bodies(page: Playground) -> list[bytes]:
    """The answers that the page shows: summary, curves, full network."""
    _, _, summary = page.summary()
    curves = next(body for body in reversed(page.bodies("sample")) if b'"draws"' in body)
    return [summary, curves, page.bodies("predict")[-1]]


@pytest.mark.parametrize("address", QUESTIONS)
def test_a_link_shows_the_same_picture(open_page: Open, address: str) -> None:
    """Whoever opens the link that was copied sees the same sentence and the same chart, to the pixel."""
    first = open_page(address).answered()
    link = first.copied("Copy link")
    base, _, state = link.partition("/#")
    second = open_page(f"#{state}").answered()
    assert second.copied("Copy link") == link
    for part in (".summary", ".legend", ".progress"):
        assert second.text(part) == first.text(part)
    assert second.picture() == first.picture()
    assert base
    assert [json.loads(one) for one in bodies(second)] == [json.loads(one) for one in bodies(first)]


def test_a_link_follows_what_is_changed(open_page: Open) -> None:
    """What was typed, picked and slid is in the address."""
    first = open_page("#model=diabetes").answered()
    first.type_into("age", "0.05")
    first.type_into("Seed", "99")
    first.field("95\u00a0%").check()
    first.field("Sweep over").select_option("bp")
    first.page.get_by_role("tab", name="Calibration").click()
    first.answered()
    second = open_page("#" + first.copied("Copy link").partition("#")[2]).answered()
    assert second.field("age").input_value() == "0.05"
    assert second.field("Seed").input_value() == "99"
    assert second.field("95\u00a0%").is_checked()
    expect(second.page.get_by_role("tab", name="Calibration")).to_have_attribute("aria-selected", "true")
    second.page.get_by_role("tab", name="Answer").click()
    assert second.field("Sweep over").input_value() == "bp"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("#model=nope", "There is no model named “nope”; showing diabetes instead."),
        ("#model=diabetes&version=9", "There is no version “9” of diabetes; showing version 1 instead."),
        ("#model=diabetes&version=1&digest=00000000", "another version of diabetes"),
        (
            "#model=diabetes&x=1,2,3&seed=abc",
            "This link’s “x” and “seed” don’t fit diabetes; using the defaults instead.",
        ),
        (
            "#model=diabetes&x=1,2&image=zz&sweep=canary&method=ensemble&seed=-3&samples=0&p=7&interval=0.51&view=canary",
            "“x”, “image”, “sweep”, “method”, “seed”, “samples”, “p”, “interval”, and “view” don’t fit",
        ),
        ("#%E0%A4%A&x=%00&&&=", "This link’s “x” doesn’t fit diabetes; using the default instead."),
        ("#model=diabetes&canary=1", None),
    ],
)
def test_a_link_that_does_not_fit_opens_what_does(open_page: Open, address: str, said: str | None) -> None:
    """What is not there, or makes no sense, is said, and the default taken; what nobody knows is ignored."""
    page = open_page(address).answered()
    alert = page.page.get_by_role("alert")
    if said is None:
        expect(alert).to_be_hidden()
    else:
        expect(alert).to_contain_text(said)
    assert page.field("Seed").input_value() == "7"
    assert "100 samples" in page.text(".progress")


@pytest.mark.parametrize("address", QUESTIONS)
def test_the_copied_curl_commands_get_these_bytes(open_page: Open, address: str) -> None:
    """In a shell they print, byte for byte, the bodies of the answers on the screen."""
    page = open_page(address).answered()
    commands = page.copied("Copy as curl")
    done = subprocess.run(["bash", "-euc", commands], check=True, capture_output=True)
    assert done.stderr == b""
    assert done.stdout == b"".join(bodies(page))


@pytest.mark.parametrize("address", QUESTIONS)
def test_the_copied_python_gets_these_answers(open_page: Open, address: str) -> None:
    """Run as a program of its own it has the same numbers."""
    page = open_page(address).answered()
    page.field("Python").check()
    program = page.copied("Copy as Python") + "\nimport json\nprint(json.dumps([answer, curves, full]))\n"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    answer, curves, full = json.loads(done.stdout)
    expected = [json.loads(one) for one in bodies(page)]
    assert [answer, curves, full] == [expected[0], expected[1]["draws"], expected[2]]


def test_the_commands_are_those_of_what_is_shown(open_page: Open) -> None:
    """After a change the command that is shown, and the one that is copied, ask for the new state."""
    page = open_page("#model=diabetes").answered()
    page.type_into("Seed", "4242")
    page.answered()
    assert '"seed":4242' in page.copied("Copy as curl")
