"""The KServe SDK's REST client, unchanged, against the real service."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api.live import Server
from tests.api.wire import PREDICT, ROW, SAMPLE, ask

ROWS = [ROW, ROW[::-1]]


@pytest.fixture(scope="module")
def told(server: Server, kserve_python: Path) -> dict[str, Any]:
    """What the client says of each case; see `kserve_client`."""
    script = Path(__file__).with_name("kserve_client.py")
    command = [str(kserve_python), str(script), server.url, json.dumps(ROWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_it_finds_the_service_and_its_models_ready(told: dict[str, Any]) -> None:
    """Live, ready, and ready to answer for one model; a model that is not there is not ready."""
    assert [told[case] for case in ("live", "ready", "model ready", "unknown model ready")] == [True, True, True, False]


@pytest.mark.parametrize("case", ["json", "bytes", "bytes both ways"])
def test_a_prediction_is_the_native_one(server: Server, told: dict[str, Any], case: str) -> None:
    """The same numbers, to the bit, however rows and answer are written."""
    native = ask(server.client, PREDICT, inputs=ROWS)
    assert told[case]["model"] == "diabetes"
    assert told[case]["outputs"] == {name: native[name] for name in ("mean", "aleatoric_std")}


@pytest.mark.parametrize("case", ["sampling", "sampling in bytes"])
def test_sampling_is_asked_for_by_parameters(server: Server, told: dict[str, Any], case: str) -> None:
    """Every summary of the native answer is an output, with the same numbers; what took effect is in the parameters."""
    native = ask(server.client, SAMPLE, inputs=ROWS, seed=7, samples=100, quantiles=[0.05, 0.5])
    outputs, parameters = told[case]["outputs"], told[case]["parameters"]
    assert outputs == {
        **{name: native[name] for name in ("mean", "std", "epistemic_std", "aleatoric_std", "stderr")},
        "lower": native["interval"]["lower"],
        "upper": native["interval"]["upper"],
        "quantiles": [native["quantiles"]["0.05"], native["quantiles"]["0.5"]],
    }
    assert parameters.items() >= {"seed": 7, "samples": 100, "digest": native["model"]["digest"]}.items()


def test_outputs_are_selected_and_written_as_asked(told: dict[str, Any]) -> None:
    """Two outputs, one in bytes and one in JSON, in the order in which they were asked for."""
    outputs = told["mixed"]["outputs"]
    assert list(outputs) == ["std", "mean"]
    assert outputs.items() <= told["sampling"]["outputs"].items()


def test_an_id_comes_back(told: dict[str, Any]) -> None:
    """The client's own, and otherwise the one that the SDK has made."""
    assert told["id"]["id"] == "mine"
    assert told["json"]["id"]


def test_other_numbers_are_taken_and_labels_are_texts(told: dict[str, Any]) -> None:
    """Whole numbers are converted where that is exact; a classification names its classes."""
    (label,) = told["labels"]["outputs"]["labels"]
    assert label in {str(digit) for digit in range(10)}


def test_errors_are_the_clients_own_with_our_message(told: dict[str, Any]) -> None:
    """What the service says is in the exception that the SDK raises."""
    unknown, unusable = told["unknown model"], told["unusable seed"]
    assert {unknown["raised"], unusable["raised"]} == {"HTTPStatusError"}
    assert unknown["text"].startswith(
        "there is no model of that name; there are: breast-cancer, diabetes, digits, digits-ensemble, mnist-ff, '404 "
    )
    assert unusable["text"].startswith(
        "parameters.seed: must be a whole number from 0 to 9007199254740991, or its digits"
    )
    assert "'400 Bad Request'" in unusable["text"]
