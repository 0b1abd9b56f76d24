"""Method moments over HTTP: one pass instead of samples, labelled approximate, on every model that ships."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from tests.api.live import Server
from tests.api.wire import ROW, TINY_ROWS, ask, assert_problem, rows_of, send

SHIPPED = ("breast-cancer", "diabetes", "digits", "digits-ensemble")


@pytest.mark.parametrize("model", SHIPPED)
def test_they_are_near_ten_thousand_samples(server: Server, model: str) -> None:
    """Mean and spread of rows within the range of training: as 10,000 samples have them, to a few hundredths."""
    path, rows = f"/v1/models/{model}/sample", rows_of(server.client, model, 2)
    told = ask(server.client, path, inputs=rows, method="moments")
    sampled = ask(server.client, path, inputs=rows, samples=10_000, seed=1)
    assert told["approximate"] is True
    assert (told["method"], told["seed"], told["first_sample"], told["samples"]) == ("moments", None, None, 0)
    assert told["stderr"] is None
    if model == "diabetes":
        std = np.array(sampled["epistemic_std"])
        assert (np.abs(np.array(told["mean"]) - sampled["mean"]) < 0.1 * std).all()
        for name, near in (("epistemic_std", 0.15), ("aleatoric_std", 0.03), ("std", 0.03)):
            assert np.allclose(told[name], sampled[name], rtol=near)
        for bound in ("lower", "upper"):
            assert np.allclose(told["interval"][bound], sampled["interval"][bound], atol=0.1 * np.max(sampled["std"]))
        return
    assert told["votes"] is None
    assert told["labels"] == sampled["labels"]
    assert np.allclose(told["probabilities"], sampled["probabilities"], atol=0.03)
    assert np.allclose(told["std"], sampled["std"], atol=0.05)
    for name in ("predictive_entropy", "expected_entropy", "mutual_information"):
        assert np.allclose(told[name], sampled[name], atol=0.08)


@pytest.mark.parametrize("model", ["silent", "noisy", "headed", "colours"])
def test_a_row_gets_what_it_gets_alone(tiny: Server, model: str) -> None:
    """Neither company nor what else is asked changes a bit; the same request has the same bytes, and a tag."""
    path = f"/v1/models/{model}/sample"
    together = ask(tiny.client, path, inputs=TINY_ROWS * 40, method="moments")
    key = "probabilities" if model == "colours" else "std"
    for place, row in enumerate(TINY_ROWS):
        alone = ask(tiny.client, path, inputs=[row], method="moments")
        assert alone[key] == together[key][place : place + 1] == together[key][place + 117 : place + 118]
    body = orjson.dumps({"inputs": TINY_ROWS, "method": "moments"})
    first, second = (send(tiny.client, path, body) for _ in range(2))
    assert first.content == second.content
    assert send(tiny.client, path, body, If_None_Match=first.headers["etag"]).status_code == 304


def test_a_seed_is_not_needed_and_makes_no_difference(server: Server) -> None:
    """With a seed or a number of samples the answer is the same, and says that none were used."""
    path, body = "/v1/models/diabetes/sample", {"inputs": [ROW], "method": "moments"}
    plain = ask(server.client, path, **body)
    assert ask(server.client, path, **body, seed=7, samples=50) == plain
    assert ask(server.client, path, **body, dropout=0.5) != plain


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"return_draws": True}, 422, "return_draws: can't be true with method moments: nothing is drawn"),
        ({"samples": {"target_stderr": 1}}, 422, "samples: can't be a target with method moments"),
        ({"dropout": 0}, 409, "diabetes has no active dropout here"),
    ],
)
def test_what_needs_samples_is_refused(server: Server, fields: dict[str, Any], status: int, said: str) -> None:
    """Draws and targets can't be had without samples, and without dropout there is nothing to work out."""
    body = orjson.dumps({"inputs": [ROW], "method": "moments", **fields})
    assert assert_problem(send(server.client, "/v1/models/diabetes/sample", body), status)["detail"].startswith(said)


def test_votes_need_samples(server: Server) -> None:
    """A vote of nobody is refused."""
    body = orjson.dumps({"inputs": [[0] * 64], "method": "moments", "aggregate": "vote"})
    assert_problem(send(server.client, "/v1/models/digits/sample", body), 422)


def test_layers_that_are_not_covered_are_409(tiny: Server) -> None:
    """A network with residual blocks says that its moments are not worked out, and what to ask for instead."""
    body = orjson.dumps({"inputs": TINY_ROWS, "method": "moments"})
    problem = assert_problem(send(tiny.client, "/v1/models/residual/sample", body), 409)
    assert problem["detail"] == ("residual has residual blocks, for which moments are not worked out: ask for samples")


def test_rows_that_overflow_are_named(tiny: Server) -> None:
    """A network whose numbers overflow refuses the row, as sampling does."""
    body = orjson.dumps({"inputs": TINY_ROWS, "method": "moments"})
    response = send(tiny.client, "/v1/models/huge/sample", body)
    if response.status_code != 200:  # float64 has room where float32 had none
        assert_problem(response, 422)


def test_the_protocol_has_them_too(server: Server) -> None:
    """Under /v2 the method alone asks for them; the numbers are those of /v1."""
    tensor = {"name": "inputs", "shape": [1, 10], "datatype": "FP64", "data": ROW}
    body = {"inputs": [tensor], "parameters": {"method": "moments"}}
    answer = server.client.post("/v2/models/diabetes/infer", json=body).json()
    native = ask(server.client, "/v1/models/diabetes/sample", inputs=[ROW], method="moments")
    told = {output["name"]: output["data"] for output in answer["outputs"]}
    assert told["mean"] == native["mean"][0]
    assert told["std"] == native["std"][0]
    assert "stderr" not in told
    assert answer["parameters"]["approximate"] is True
    assert "seed" not in answer["parameters"]
