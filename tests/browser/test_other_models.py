"""Models unlike those that ship: several outputs, no noise, no dropout, calibrated ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from models.manifest import answer_digest
from tests.api.live import Server
from tests.api.stores import publish_all
from tests.browser.pages import Playground

Open = Callable[..., Playground]
# As if the model had been a little too sure of itself: more is held than promised at no level.
LEVELS = [0.1, 0.3, 0.5, 0.7, 0.9]
SCORES = [0.15, 0.5, 0.9, 1.4, 2.4]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tiny models, and one whose manifest has conformity scores."""
    store = tmp_path_factory.mktemp("odd")
    publish_all(store)
    path = store / "headed" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    conformal = {"method": "dropout", "samples": 100, "dropout": [0.5], "rows": 200, "levels": LEVELS}
    outputs = len(manifest["outputs"])
    manifest["calibration"] = {"temperature": 1.25, "conformal": {**conformal, "quantiles": [SCORES] * outputs}}
    manifest["metrics"] = {"test": {"coverage_90": 0.84, "conformal_coverage_90": 0.91}}
    manifest["digest"] = answer_digest(manifest)
    path.write_text(json.dumps(manifest))
    running = Server(store=store)
    yield running
    running.stop()


def test_without_noise_only_the_networks_have_a_spread(open_page: Open, odd: Server) -> None:
    """No aleatoric part, no total band; and the interval is said to be about the networks' means."""
    page = open_page("#model=silent", base=odd.url).answered()
    assert "of the networks’ means lie between" in page.text(".head .meaning")
    assert "Aleatoric" not in page.text(".doubt")
    assert "total" not in page.text(".legend")


def test_another_output_can_be_looked_at(open_page: Open, odd: Server) -> None:
    """Of a regression with two outputs each has its sentence, its sweep and its units."""
    page = open_page("#model=silent", base=odd.url).answered()
    assert page.text(".head .what") == "up"
    page.field("Output").select_option(label="down")
    page.answered()
    assert page.text(".head .what") == "down"
    _, answer, _ = page.summary()
    shown = float(page.text(".head .value").split()[0].replace("−", "-"))
    assert abs(shown - answer["mean"][0][1]) <= 0.06 * answer["std"][0][1] + 1e-9
    assert "down over" in (page.page.locator(".chart").get_attribute("aria-label") or "")


def test_without_dropout_the_service_says_so(open_page: Open, odd: Server) -> None:
    """A model that has no committee is refused in the service's words; another model can be opened from there."""
    page = open_page("#model=dry", base=odd.url, may_lose_it=True)
    expect(page.page.get_by_role("alert")).to_contain_text("no active dropout")
    page.page.get_by_role("link", name="colours", exact=True).click()
    page.answered()
    expect(page.page.get_by_role("alert")).to_be_hidden()
    assert page.page.locator(".committee tbody tr").count() == 3


def test_what_was_calibrated_is_shown(open_page: Open, odd: Server) -> None:
    """Coverage before and after, the line of all levels below the diagonal, and for which committees it holds."""
    page = open_page("#model=headed&view=calibration", base=odd.url).answered()
    shown = page.text("#panel-calibration")
    assert "Intervals that promise 90 % held 84 %" in shown
    assert "Conformal intervals that promise 90 % held 91 %" in shown
    assert "hold for 100 samples by dropout" in shown
    assert "Temperature 1.25." in shown
    line: list[list[float]] = page.page.locator("polyline.found").evaluate(
        "line => [...line.points].map(point => [point.x, point.y])"
    )
    ideal: list[float] = page.page.locator("line.ideal").evaluate(
        "line => ['x1', 'y1', 'x2', 'y2'].map(name => line[name].baseVal.value)"
    )
    x1, y1, x2, y2 = ideal
    for (x, y), level in zip(line, LEVELS, strict=True):
        assert (y - y1) / (y2 - y1) == pytest.approx(level, abs=1e-3)
        assert (x - x1) / (x2 - x1) > level, "more was promised than was held"
