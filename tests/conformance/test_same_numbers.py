"""Two codecs, one inference: what is asked natively and through the protocol has the same numbers, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.http import InferResult

from tests.api.draws import labels_of
from tests.api.live import Server
from tests.api.wire import ask

SHAPES = {"diabetes": 10, "breast-cancer": 30, "digits": 64, "silent": 3, "noisy": 3, "headed": 3, "colours": 3}
CLASSIFICATIONS = {"breast-cancer", "digits", "colours"}


@pytest.fixture(scope="module")
def serving(server: Server, tiny: Server) -> dict[str, Server]:
    """Who serves which model."""
    return {name: tiny if SHAPES[name] == 3 else server for name in SHAPES}


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, list[list[float]], dict[str, Any]]:
    """A model, rows for it, and the native options of a sampling; none for a prediction."""
    name = draw(st.sampled_from(sorted(SHAPES)))
    row = st.lists(st.floats(-3.0, 3.0), min_size=SHAPES[name], max_size=SHAPES[name])
    rows = draw(st.lists(row, min_size=1, max_size=4))
    if draw(st.booleans()):
        return name, rows, {}
    options = {
        "seed": st.integers(0, 2**53 - 1),
        "samples": st.integers(1, 40),
        "first_sample": st.integers(0, 2**40),
        "interval": st.floats(0.01, 0.99),
        "dropout": st.floats(0.05, 1.0),
        "return_draws": st.booleans(),
        **(
            {"aggregate": st.sampled_from(["mean", "vote"])}
            if name in CLASSIFICATIONS
            else {"quantiles": st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3, unique=True)}
        ),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(options)))) | {"seed"}
    return name, rows, {option: draw(options[option]) for option in sorted(chosen)}


def through_the_protocol(server: Server, name: str, rows: Any, options: dict[str, Any], *, binary: bool) -> InferResult:
    """The answer to the same question, asked and answered in JSON or in bytes."""
    parameters = {("draws" if option == "return_draws" else option): value for option, value in options.items()}
    if "quantiles" in parameters:
        parameters["quantiles"] = ", ".join(map(repr, parameters["quantiles"]))
    array = np.array(rows)
    tensor = {"name": "inputs", "shape": array.shape, "datatype": "FP64"}
    if binary:
        tensor["parameters"] = {"binary_data_size": array.nbytes}
        parameters["binary_data_output"] = True
    else:
        tensor["data"] = rows
    text = orjson.dumps({"inputs": [tensor], "parameters": parameters})
    headers = {"Inference-Header-Content-Length": str(len(text))} if binary else {}
    answer = server.client.post(
        f"/v2/models/{name}/infer", content=text + (array.tobytes() if binary else b""), headers=headers
    )
    assert answer.status_code == 200, answer.text
    return InferResult.from_response_body(
        answer.content, header_length=answer.headers.get("inference-header-content-length")
    )


@settings(max_examples=60)
@given(question=questions())
def test_both_codecs_have_the_same_numbers(
    serving: dict[str, Server], question: tuple[str, list[list[float]], dict[str, Any]]
) -> None:
    """Every summary, in JSON and in bytes, of any model, with any options."""
    name, rows, options = question
    native = ask(
        serving[name].client, f"/v1/models/{name}/{'sample' if options else 'predict'}", inputs=rows, **options
    )
    expected = {
        key: value
        for key, value in {**native, **native.get("interval", {})}.items()
        if key not in {"model", "seed", "first_sample", "samples", "method", "interval", "level", "kind", "quantiles"}
    }
    if "quantiles" in native:
        bounds = [native["quantiles"][repr(one)] for one in options["quantiles"]]
        expected["quantiles"] = None if None in bounds else bounds
    if native.get("prediction_set"):
        names = labels_of(serving[name], name)
        expected["prediction_set"] = [[label in one for label in names] for one in native["prediction_set"]]
    for binary in (False, True):
        result = through_the_protocol(serving[name], name, rows, options, binary=binary)
        told = result.get_response()
        assert {each["name"] for each in told["outputs"]} == {
            key for key, value in expected.items() if value is not None
        }
        for key in (each["name"] for each in told["outputs"]):
            found = result.as_numpy(key)
            if key == "labels":
                found = [label.decode() if isinstance(label, bytes) else label for label in found]
            np.testing.assert_array_equal(found, expected[key], err_msg=key)
        if options:
            effective = {option: native[option] for option in ("seed", "first_sample", "samples", "method")}
            assert told["parameters"].items() >= {**effective, "digest": native["model"]["digest"]}.items()
