"""Models unlike those that ship: several outputs, no noise, no dropout, calibrated, imported, of mixed columns."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from playwright.sync_api import expect
from typer.testing import CliRunner

from models.__main__ import app
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


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with models of one's own: of a small table with columns of all kinds, and a network from PyTorch."""
    folder = tmp_path_factory.mktemp("own")
    store, table = folder / "store", folder / "houses.csv"
    random.seed(1)
    table.write_text("rooms,heating,garden,age,price\n" + "".join(house() for _ in range(60)))
    run("train", table, "--target", "price", "--epochs", 2, "--hidden", 8, "--store", store)
    layers = (torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3))
    torch.save(torch.nn.Sequential(*layers), folder / "mine.pt")
    run("import", folder / "mine.pt", "--name", "mine", "--classes", 3, "--store", store)
    running = Server(store=store)
    yield running
    running.stop()


def house() -> str:
    """A line of the table; some have no age, some no garden."""
    rooms, age = random.randint(1, 8), random.choice(["", random.randint(0, 90)])
    garden = random.choice(["", "true", "true", "false"])
    return f"{rooms},{random.choice(['gas', 'oil'])},{garden},{age},{40 * rooms + random.randint(0, 20)}\n"


def run(*words: object) -> None:
    """Runs a command of `python -m models`."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output


def test_columns_of_all_kinds_can_be_asked(open_page: Open, own: Server) -> None:
    """Categories and truth values are chosen, numbers slid and typed; each goes out as what it is."""
    page = open_page("#model=houses", base=own.url).answered()
    rooms, heating, garden, age = page.summary()[0]["inputs"][0]
    assert (heating, garden) == ("gas", True)
    assert 1 <= rooms <= 8
    assert 0 <= age <= 90
    page.field("oil").check()
    page.field("false").check()
    page.type_into("rooms", "3")
    page.answered()
    assert page.summary()[0]["inputs"][0] == [3, "oil", False, age]
    for view in ("Calibration", "Model"):
        page.page.get_by_role("tab", name=view).click()
    assert "false, true, missing" in page.text("#panel-model")


def test_a_value_can_be_missing(open_page: Open, own: Server) -> None:
    """Where training has seen gaps a value may be missing; links and commands say so, and it can come back."""
    page = open_page("#model=houses", base=own.url).answered()
    before = page.summary()[0]["inputs"][0][3]
    page.field("age is missing").check()
    page.page.get_by_role("radio", name="missing").check()
    page.field("unknown").check()
    asked, answer, _ = page.answered().summary()
    assert asked["inputs"][0][1:] == [None, None, None]
    assert page.field("age").get_attribute("placeholder") == "missing"
    assert page.field("age, slider").is_disabled()
    assert page.field("rooms is missing").count() == 0
    other = open_page("#" + page.copied("Copy link").partition("#")[2], base=own.url).answered()
    assert other.summary()[0] == asked
    other.field("Python").check()
    program = other.copied("Copy as Python") + "\nimport json\nprint(json.dumps(answer))\n"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert json.loads(done.stdout) == answer
    page.field("age is missing").uncheck()
    assert page.answered().summary()[0]["inputs"][0][3] == pytest.approx(before, abs=1)
    page.type_into("age", "")
    assert page.answered().summary()[0]["inputs"][0][3] is None


def test_ranges_that_nobody_recorded(open_page: Open, own: Server) -> None:
    """An imported network's inputs are slid between mean − 2 scale and mean + 2 scale, and nothing is called unseen."""
    page = open_page("#model=mine", base=own.url).answered()
    slider = page.field("x1, slider")
    assert [slider.get_attribute(end) for end in ("min", "max")] == ["-2", "2"]
    page.type_into("x1", "−5")
    assert page.answered().summary()[0]["inputs"][0][0] == -5
    assert page.page.locator(".rows .hint:visible").count() == 0
    for view in ("Calibration", "Model"):
        page.page.get_by_role("tab", name=view).click()
    assert "unknown" in page.text("#panel-model")


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
    assert abs(page.figure() - answer["mean"][0][1]) <= 0.06 * answer["std"][0][1] + 1e-9
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
    assert "Predictive intervals at 90 % held 84.0 %" in shown
    assert "Conformal intervals at 90 % held 91.0 %" in shown
    assert "hold for 100 samples by dropout" in shown
    assert "Temperature: 1.25." in shown
    line: list[list[float]] = page.page.locator(".diagram > svg polyline.found").evaluate(
        "line => [...line.points].map(point => [point.x, point.y])"
    )
    ideal: list[float] = page.page.locator(".diagram > svg line.ideal").evaluate(
        "line => ['x1', 'y1', 'x2', 'y2'].map(name => line[name].baseVal.value)"
    )
    x1, y1, x2, y2 = ideal
    for (x, y), level in zip(line, LEVELS, strict=True):
        assert (y - y1) / (y2 - y1) == pytest.approx(level, abs=1e-3)
        assert (x - x1) / (x2 - x1) > level, "more was promised than was held"
