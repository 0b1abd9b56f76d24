"""What the page shows is what the service says: numbers, sweeps, votes, growth."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.api.live import Server
from tests.browser.pages import Playground, number

ROW = "0.04,0.05,0.06,0.02,-0.04,-0.03,-0.04,0,0.02,-0.02"
README_DIGIT = "0000d1000007f300000gb200004gge10005g88a0009g40f00029bde00000aga0"
Open = Callable[..., Playground]


def test_a_regression_is_told_with_its_doubt(open_page: Open) -> None:
    """The sentence has the mean, its standard deviation and the interval of the answer to the row itself."""
    page = open_page(f"#model=diabetes&x={ROW}&seed=7").answered()
    _, answer, _ = page.summary()
    assert page.text(".head .value").split() == ["200", "±", "60", "score"]
    assert round(answer["mean"][0][0]) == 200
    assert round(answer["std"][0][0]) == 60
    assert "between 103 and 297" in page.text(".head .meaning")
    assert "full network alone says 198" in page.text(".head .meaning")
    assert f"{answer['epistemic_std'][0][0]:.1f}" in page.text(".doubt")
    assert f"{answer['aleatoric_std'][0][0]:.1f}" in page.text(".doubt")


def test_an_interval_that_is_out_of_reach(open_page: Open) -> None:
    """Calibration rows are too few for some levels: the page says so, and draws the rest."""
    page = open_page(f"#model=diabetes&x={ROW}&interval=0.99").answered()
    _, answer, _ = page.summary()
    assert answer["interval"] == {"level": 0.99, "kind": "conformal", "lower": None, "upper": None}
    assert "Calibration had too few rows for an interval of 99 %" in page.text(".head .meaning")
    assert page.text(".head .value").split()[:2] == ["200", "±"]


def test_the_sweep_is_the_answer_to_its_rows(open_page: Open) -> None:
    """Each row of the table beside the chart is what the service said of that point, for another input as well."""
    page = open_page(f"#model=diabetes&x={ROW}").answered()
    page.page.get_by_text("The sweep as a table").click()
    for sweep, place in (("bmi", 2), ("age", 0)):
        page.field("Sweep over").select_option(sweep)
        asked, answer, _ = page.answered().summary()
        xs = [row[place] for row in asked["inputs"][1:]]
        assert xs == sorted(xs)
        shown = page.table()
        assert len(shown) == 9
        for (x, mean, epistemic, std, low, high), at in zip(shown, range(0, 73, 9), strict=True):
            assert math.isclose(number(x), xs[at], rel_tol=5e-3, abs_tol=1e-9)
            for text, matrix in (
                (mean, answer["mean"]),
                (epistemic, answer["epistemic_std"]),
                (std, answer["std"]),
                (low, answer["interval"]["lower"]),
                (high, answer["interval"]["upper"]),
            ):
                assert math.isclose(number(text), matrix[at + 1][0], rel_tol=5e-3)
        assert f"progression over {sweep}" in (page.page.locator(".chart").get_attribute("aria-label") or "")


def test_the_chart_is_drawn_and_can_be_pointed_at(open_page: Open) -> None:
    """A click on the chart moves the input that is swept over; the pointer reads values off it."""
    page = open_page(f"#model=diabetes&x={ROW}").answered()
    before = page.picture()
    over = page.page.locator(".chart .u-over")
    box = over.bounding_box()
    assert box is not None
    over.hover(position={"x": box["width"] * 0.75, "y": 50})
    assert "progression" in page.text(".readout")
    over.click(position={"x": box["width"] * 0.75, "y": 50})
    page.answered()
    assert float(page.field("bmi").input_value()) > 0.06
    assert page.picture() != before


def test_what_training_never_saw_is_said(open_page: Open) -> None:
    """Beyond the range seen in training a field says so, and the networks disagree more."""
    page = open_page(f"#model=diabetes&x={ROW}").answered()
    _, before, _ = page.summary()
    page.type_into("bmi", "0.3")
    _, after, _ = page.answered().summary()
    assert "Outside −0.0903 … 0.161, the range seen in training." in page.text(".row:has(#in-bmi) .hint")
    assert after["epistemic_std"][0][0] > before["epistemic_std"][0][0]


def test_an_answer_grows_while_it_is_looked_at(open_page: Open, server: Server) -> None:
    """Each step shows more samples than the one before; the last is the answer that a single request gets."""
    page = open_page(f"#model=diabetes&x={ROW}", reduced_motion="no-preference").answered()
    page.page.evaluate(
        """() => { window.steps = []; new MutationObserver(() => {
             const shown = Number(document.querySelector("#answer").dataset.samples);
             if (shown !== window.steps.at(-1)) window.steps.push(shown);
           }).observe(document.querySelector("#answer"), {attributes: true, attributeFilter: ["data-samples"]}); }"""
    )
    page.type_into("Samples", "300")
    page.answered()
    steps = page.page.evaluate("window.steps")
    assert len(steps) > 5
    assert steps == sorted(steps)
    assert steps[-1] == 300
    asked, _, body = page.summary()
    assert server.client.post("/v1/models/diabetes/sample", json=asked).content == body
    assert "300 samples" in page.text(".progress")


def test_a_classification_shows_votes_and_doubt(open_page: Open) -> None:
    """The README's digit: votes, probabilities and both parts of the doubt are those of its example."""
    page = open_page(f"#model=digits&image={README_DIGIT}&seed=1").answered()
    assert page.text(".head .value").split() == ["1", "69", "%"]
    assert "76 of 100 thinned networks vote for it; 22 for 6" in page.text(".head .meaning")
    assert "full network alone says 1 with 84 %" in page.text(".head .meaning")
    votes = page.page.locator(".committee tbody tr td:last-child").all_inner_texts()
    assert votes == ["0", "76", "2", "0", "0", "0", "22", "0", "0", "0"]
    assert "0.250 nats" in page.text(".doubt")
    assert "0.874 of 2.30 nats" in page.text(".doubt")
    assert page.page.locator(".committee tr.leads .one").count() == 40


def test_an_ensemble_can_be_asked(open_page: Open) -> None:
    """Where there are members all of them can be asked; the answer without dropout is then called what it is."""
    page = open_page("#model=digits-ensemble&seed=1").answered()
    assert "method" not in page.summary()[0]
    page.field("all 5").check()
    page.answered()
    asked, answer, _ = page.summary()
    assert asked["method"] == answer["method"] == "ensemble"
    assert f"{answer['votes'][0][1]} of 100 thinned networks vote for it" in page.text(".head .meaning")
    assert "Without dropout, the mean of the 5 members says 1" in page.text(".head .meaning")
    assert "full network" not in page.text(".head .meaning")
    for button in ("Copy link", "Copy as curl"):
        assert "ensemble" in page.copied(button).replace("digits-ensemble", "")
    assert open_page("#model=digits").answered().field("one network").count() == 0


def test_examples_are_as_large_as_the_models_pictures(open_page: Open) -> None:
    """A model of 28 × 28 pixels opens on a digit of that size, and reads the clear ones as what they are."""
    page = open_page("#model=mnist-ff").answered()
    assert len(page.summary()[0]["inputs"][0]) == 784
    for name, digit in (("a 0", "0"), ("a 5", "5"), ("an 8", "8")):
        page.page.get_by_role("button", name=f"Take {name}").click()
        page.answered()
        assert page.text(".head .value").split()[0] == digit


def test_a_table_of_classes_can_be_swept(open_page: Open) -> None:
    """The probability of the leading class, or of one that was picked, over any input."""
    page = open_page("#model=breast-cancer").answered()
    label = page.page.locator(".chart").get_attribute("aria-label") or ""
    assert "Probability of malignant over mean perimeter" in label
    page.field("Probability of").select_option("benign")
    page.field("Sweep over").select_option("worst area")
    page.answered()
    label = page.page.locator(".chart").get_attribute("aria-label") or ""
    assert "Probability of benign over worst area" in label


def test_a_picture_is_drawn_and_disturbed(open_page: Open) -> None:
    """An example is agreed upon; noise makes the committee disagree; a blank page can be drawn on."""
    page = open_page("#model=digits&seed=1").answered()
    page.page.get_by_role("button", name="Take a 0").click()
    page.answered()
    assert "All 100 thinned networks vote for it." in page.text(".head .meaning")
    page.type_into("Noise", "0.6")
    page.answered()
    noisy = page.text(".head .meaning")
    assert "All 100" not in noisy
    page.page.get_by_role("button", name="Clear").click()
    page.answered()
    pad = page.page.locator("canvas.pad")
    box = pad.bounding_box()
    assert box is not None
    page.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 10)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] - 10, steps=6)
    page.page.mouse.up()
    page.answered()
    image = page.page.evaluate(
        "new URLSearchParams(document.querySelector('#answer').dataset.shown.slice(1)).get('image')"
    )
    assert len(image) == 64
    assert set(image) > {"0"}


def test_another_dropout_rate(open_page: Open) -> None:
    """The rate goes into the request, and the doubt changes; where no dropout is left the service's words are shown."""
    page = open_page(f"#model=diabetes&x={ROW}").answered()
    before = page.text(".doubt")
    page.field("Dropout p").check()
    page.field("Dropout p of every layer, slider").fill("0.5")
    page.answered()
    asked, _, _ = page.summary()
    assert asked["dropout"] == 0.5
    assert page.text(".doubt") != before


def test_a_refusal_is_told_in_the_services_words(open_page: Open) -> None:
    """With p = 0 there is no committee: the page says what the service says, and goes on with the next question."""
    page = open_page(f"#model=diabetes&x={ROW}&p=0", may_lose_it=True)
    expect(page.page.get_by_role("alert")).to_contain_text("no active dropout")
    page.field("Dropout p of every layer, slider").fill("0.1")
    page.answered()
    expect(page.page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(
    ("label", "text"), [("bmi", "much"), ("Seed", "-1"), ("Seed", "1e3"), ("Samples", "0"), ("Samples", "9999999")]
)
def test_what_can_not_be_asked_is_not_asked(open_page: Open, label: str, text: str) -> None:
    """A field that holds no number says what it must be; the answer of before stays."""
    page = open_page(f"#model=diabetes&x={ROW}").answered()
    asked = len(page.answers)
    page.type_into(label, text)
    assert page.field(label).get_attribute("aria-invalid") == "true"
    hint = page.page.locator(f"#{page.field(label).get_attribute('aria-describedby')}")
    expect(hint).to_contain_text("Must be a")
    assert len(page.answers) == asked


def test_the_calibration_tab_has_the_manifests_figures(open_page: Open, server: Server) -> None:
    """Coverage promised and held, figures on held-out rows beside those of plain methods."""
    page = open_page("#model=diabetes&view=calibration").answered()
    test = server.client.get("/v1/models/diabetes").json()["metrics"]["test"]
    shown = page.text("#panel-calibration")
    assert f"held {100 * test['coverage_90']:.1f} %" in shown
    assert f"{test['rmse']:.1f}" in shown
    assert "Ridge regression" in shown


def test_the_model_tab_has_the_manifest(open_page: Open, server: Server) -> None:
    """Digest, network, inputs with their ranges."""
    page = open_page("#model=breast-cancer&view=model").answered()
    manifest = server.client.get("/v1/models/breast-cancer").json()
    shown = page.text("#panel-model")
    assert manifest["digest"] in shown
    assert "30 → 64 → 64 → 2" in shown
    assert all(one["name"] in shown for one in manifest["inputs"])
