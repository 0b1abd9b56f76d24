"""Calibrated versions: what a temperature and conformal quantiles do to answers, and when they stand back."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from scipy.special import softmax

from models.calibration import EPSILON
from tests.api.draws import labels_of, members_variances, mixture_quantiles, same, sampled
from tests.api.live import Server
from tests.api.wire import TINY_ROWS, ask, streamed

SCALE = np.array([3.0, 200.0])
QUANTILES = {0.5: [0.7, 0.5], 0.9: [1.75, 3.0]}


def asked(server: Server, model: str = "calibrated", **options: Any) -> dict[str, Any]:
    """An answer for the tiny rows."""
    return ask(server.client, f"/v1/models/{model}/sample", inputs=TINY_ROWS, seed=3, **options)


@pytest.mark.parametrize(("level", "kept"), [(0.9, 0.9), (0.5, 0.5), (0.2, 0.5), (0.51, 0.9)])
def test_a_conformal_interval(tiny: Server, level: float, kept: float) -> None:
    """Where the calibration holds, the interval is mean ± quantile × (std + ε), with the next level's quantile."""
    answer = asked(tiny, interval=level)
    assert answer["samples"] == 20
    assert answer["interval"]["kind"] == "conformal"
    assert answer["interval"]["level"] == level
    half = np.array(QUANTILES[kept]) * (np.array(answer["std"]) + EPSILON * SCALE)
    assert same(answer["interval"]["lower"], np.array(answer["mean"]) - half, rtol=1e-10)
    assert same(answer["interval"]["upper"], np.array(answer["mean"]) + half, rtol=1e-10)


def test_a_level_for_which_there_were_too_few_rows(tiny: Server) -> None:
    """Bounds that would be infinite are null; the rest of the answer is there."""
    answer = asked(tiny, interval=0.95)
    assert answer["interval"] == {"level": 0.95, "kind": "conformal", "lower": None, "upper": None}
    assert np.isfinite(answer["std"]).all()


@pytest.mark.parametrize("options", [{"samples": 21}, {"samples": 19}, {"dropout": 0.4}])
def test_other_settings_fall_back_visibly(tiny: Server, options: dict[str, Any]) -> None:
    """With other samples or another dropout the interval is the mixture's, and its kind says so."""
    answer = asked(tiny, **options, quantiles=[0.05, 0.95])
    assert answer["interval"]["kind"] == "predictive"
    assert same(answer["interval"]["lower"], answer["quantiles"]["0.05"], rtol=1e-9)
    assert same(answer["interval"]["upper"], answer["quantiles"]["0.95"], rtol=1e-9)


def test_settings_that_are_the_same_in_other_words(tiny: Server) -> None:
    """Other seeds and other samples of a committee are as exchangeable, and a what-if of the trained p is none."""
    for options in ({"dropout": 0.5}, {"first_sample": 700}, {"samples": 20}):
        assert asked(tiny, **options)["interval"]["kind"] == "conformal"
    assert asked(tiny, dropout=0.5) == asked(tiny)


def test_quantiles_are_the_mixtures(tiny: Server) -> None:
    """Quantiles are those of the tempered mixture, also beside a conformal interval."""
    answer, draws = sampled(tiny, "calibrated", 20, quantiles=[0.3])
    assert answer["interval"]["kind"] == "conformal"
    variances = members_variances(tiny, "calibrated", 20)
    assert same(answer["quantiles"]["0.3"], mixture_quantiles(0.3, draws, np.sqrt(variances)), rtol=1e-9)


def test_a_temperature_multiplies_variances(tiny: Server) -> None:
    """The same weights without a temperature of 2.5 claim a variance that is 2.5 times smaller, and equal means."""
    for path, options in (("predict", {}), ("sample", {"seed": 1, "samples": 9})):
        plain, tempered = (
            ask(tiny.client, f"/v1/models/{model}/{path}", inputs=TINY_ROWS, **options)
            for model in ("headed", "calibrated")
        )
        assert plain["mean"] == tempered["mean"]
        assert same(tempered["aleatoric_std"], np.sqrt(2.5) * np.array(plain["aleatoric_std"]))


def test_a_temperature_divides_logits(tiny: Server) -> None:
    """Probabilities are those of the logits, which are known but for a constant, divided by 0.5."""
    for path, options in (("predict", {}), ("sample", {"seed": 1, "samples": 1})):
        plain, tempered = (
            ask(tiny.client, f"/v1/models/{model}/{path}", inputs=TINY_ROWS, **options)
            for model in ("colours", "calibrated-colours")
        )
        expected = softmax(np.log(plain["probabilities"]) / 0.5, axis=1)
        assert same(tempered["probabilities"], expected, rtol=1e-9)


def test_a_prediction_set(tiny: Server) -> None:
    """It has every class whose probability lacks no more than the quantile to 1, in the classes' order."""
    answer = asked(tiny, "calibrated-colours")
    names = labels_of(tiny, "calibrated-colours")
    for probabilities, label, found in zip(
        answer["probabilities"], answer["labels"], answer["prediction_set"], strict=True
    ):
        assert found == [name for name, p in zip(names, probabilities, strict=True) if 1 - p <= 0.8 or name == label]
    assert list(answer)[-1] == "prediction_set"


def test_a_prediction_set_is_never_empty(tiny: Server) -> None:
    """At a level where no class is likely enough, the label stands alone; out of reach, all classes do."""
    answer = asked(tiny, "calibrated-colours", interval=0.05)
    assert answer["prediction_set"] == [[label] for label in answer["labels"]]
    answer = asked(tiny, "calibrated-colours", interval=0.99)
    assert answer["prediction_set"] == [labels_of(tiny, "calibrated-colours")] * 3


def test_a_voted_label_is_in_its_set(tiny: Server) -> None:
    """Whatever decides the label, it is in the set."""
    for seed in range(20):
        answer = ask(
            tiny.client,
            "/v1/models/calibrated-colours/sample",
            inputs=TINY_ROWS,
            seed=seed,
            aggregate="vote",
            interval=0.05,
        )
        assert answer["prediction_set"] == [[label] for label in answer["labels"]]


def test_no_set_where_the_calibration_does_not_hold(tiny: Server) -> None:
    """Other settings have null; a version without conformal quantiles does not have the field."""
    assert asked(tiny, "calibrated-colours", samples=21)["prediction_set"] is None
    assert "prediction_set" not in asked(tiny, "colours", samples=20)


def test_one_sample_is_no_committee_to_calibrate(tiny: Server) -> None:
    """A single sample has the mixture's interval: of one normal."""
    assert asked(tiny, samples=1)["interval"]["kind"] == "predictive"


def test_the_manifest_says_what_it_holds_for(tiny: Server) -> None:
    """The calibration is told with the settings that it was made with."""
    told = tiny.client.get("/v1/models/calibrated").json()["calibration"]
    assert told["temperature"] == 2.5
    assert told["conformal"] == {
        "method": "dropout",
        "samples": 20,
        "dropout": [0.5],
        "rows": 15,
        "levels": [0.5, 0.9, 0.95],
        "quantiles": [[0.7, 1.75, None], [0.5, 3.0, None]],
    }
    assert tiny.client.get("/v1/models/headed").json()["calibration"] == {}


def test_rows_in_company_have_the_same_set_and_interval(tiny: Server) -> None:
    """Each row alone is answered as it is among others, to the bit."""
    for model, names in (("calibrated", ("interval",)), ("calibrated-colours", ("prediction_set",))):
        together = asked(tiny, model)
        for place, row in enumerate(TINY_ROWS):
            alone = ask(tiny.client, f"/v1/models/{model}/sample", inputs=[row], seed=3)
            for name in names:
                if name == "interval":
                    assert alone[name]["lower"] == together[name]["lower"][place : place + 1]
                    assert alone[name]["upper"] == together[name]["upper"][place : place + 1]
                else:
                    assert alone[name] == together[name][place : place + 1]


def test_as_tensors(tiny: Server) -> None:
    """The protocol has the interval's kind among its parameters, and a set as a 1 or 0 for every class."""

    def infer(model: str, parameters: dict[str, Any]) -> dict[str, Any]:
        rows = {"name": "inputs", "shape": [3, 3], "datatype": "FP64", "data": np.ravel(TINY_ROWS).tolist()}
        answer = tiny.client.post(f"/v2/models/{model}/infer", json={"inputs": [rows], "parameters": parameters})
        assert answer.status_code == 200, answer.text
        return orjson.loads(answer.content)

    assert infer("calibrated", {"seed": 3})["parameters"]["interval_kind"] == "conformal"
    assert infer("calibrated", {"seed": 3, "samples": 21})["parameters"]["interval_kind"] == "predictive"
    names = labels_of(tiny, "calibrated-colours")
    native = asked(tiny, "calibrated-colours")["prediction_set"]
    tensors = {each["name"]: each for each in infer("calibrated-colours", {"seed": 3})["outputs"]}
    assert tensors["prediction_set"]["shape"] == [3, 3]
    found = np.array(tensors["prediction_set"]["data"]).reshape(3, 3)
    assert found.tolist() == [[float(name in row) for name in names] for row in native]
    fallen = {each["name"] for each in infer("calibrated-colours", {"seed": 3, "samples": 21})["outputs"]}
    assert "prediction_set" not in fallen
    listed = tiny.client.get("/v2/models/calibrated-colours").json()["outputs"]
    assert "prediction_set" in {each["name"] for each in listed}


def test_each_method_of_an_ensemble_has_its_own_calibration(tiny: Server) -> None:
    """The first member's committee and that of all members hold for their own samples, with their own quantiles."""
    names = labels_of(tiny, "calibrated-rainbow")
    for method, samples, quantile in (("dropout", 20, 0.8), ("ensemble", 30, 0.6)):
        answer = asked(tiny, "calibrated-rainbow", method=method, samples=samples)
        for probabilities, label, found in zip(
            answer["probabilities"], answer["labels"], answer["prediction_set"], strict=True
        ):
            within = (1 - np.array(probabilities) <= quantile) | (np.array(names) == label)
            assert found == np.array(names)[within].tolist()
    for method, samples in (("dropout", 30), ("ensemble", 20)):
        assert asked(tiny, "calibrated-rainbow", method=method, samples=samples)["prediction_set"] is None


def test_a_thinned_network_says_the_same_however_it_is_asked(tiny: Server) -> None:
    """One temperature: every third sample of all members is one of the first member's."""
    _, own = sampled(tiny, "calibrated-rainbow", 20)
    _, turns = sampled(tiny, "calibrated-rainbow", 20, method="ensemble")
    assert np.array_equal(turns[::3], own[::3])
    _, plain = sampled(tiny, "rainbow", 20, method="ensemble")
    assert same(turns, softmax(np.log(plain) / 0.5, axis=2), rtol=1e-9)


@pytest.mark.parametrize("model", ["calibrated", "calibrated-colours"])
def test_running_answers_are_calibrated_where_they_have_the_samples(tiny: Server, model: str) -> None:
    """A stream's answers are those that so many samples alone would give: at its end, and on the way."""

    def holds(answer: dict[str, Any]) -> bool:
        return answer["interval"]["kind"] == "conformal" if "interval" in answer else bool(answer["prediction_set"])

    for samples in (20, 40):
        told = streamed(tiny.client, model, inputs=TINY_ROWS, seed=3, samples=samples)
        answers = [orjson.loads(data) for _, data in told]
        assert [holds(answer) for answer in answers] == [answer["samples"] == 20 for answer in answers]
        assert told[-1][1] == orjson.dumps(asked(tiny, model, samples=samples))
    stopped = asked(tiny, model, samples={"target_stderr": 1e-9, "max": 20})
    assert holds(stopped)
    assert not stopped["converged"]
    assert not holds(asked(tiny, model, samples={"target_stderr": 1e9, "min": 10}))


def test_moments_are_tempered_and_fall_back(tiny: Server) -> None:
    """Without samples there is nothing to hold for; the temperature is that of every other answer."""
    plain, tempered = (asked_for_moments(tiny, model) for model in ("headed", "calibrated"))
    assert tempered["interval"]["kind"] == "predictive"
    assert same(tempered["aleatoric_std"], np.sqrt(2.5) * np.array(plain["aleatoric_std"]))
    assert tempered["epistemic_std"] == plain["epistemic_std"]
    told, sampled_many = (
        asked_for_moments(tiny, "calibrated-colours"),
        asked(tiny, "calibrated-colours", samples=2000),
    )
    assert told["prediction_set"] is None
    assert np.allclose(told["probabilities"], sampled_many["probabilities"], atol=0.05)


def asked_for_moments(server: Server, model: str) -> dict[str, Any]:
    """What a single pass says of the tiny rows."""
    return ask(server.client, f"/v1/models/{model}/sample", inputs=TINY_ROWS, method="moments")
