"""Specs: what is accepted, what is refused, and that JSON loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.architecture import DEFAULT_P, ClassificationHead, Mlp, RegressionHead
from models.layers import Activation, Block, Dropout, Linear, Norm, dropout_sites
from tests.models.examples import mlps, probabilities, specs

VALID: dict[str, Any] = {"inputs": 4, "hidden": [5, 6], "head": {"kind": "regression"}}


@given(specs())
def test_json_loses_nothing(spec):
    """A spec is equal to what its JSON is read back to."""
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


@given(specs())
def test_plain_values_lose_nothing(spec):
    """A spec is equal to what the parsed JSON of its plain values is read back to."""
    assert type(spec).model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@given(specs())
def test_equal_specs_have_equal_hashes(spec):
    """A spec can be a key: its copy finds what it stored."""
    assert {spec: "found"}[type(spec).model_validate_json(spec.model_dump_json())] == "found"


def test_default_p():
    """Without a word about dropout every hidden layer gets p = 0.5, and the inputs get none."""
    spec = Mlp(**VALID)
    assert spec.dropout == (0.5, 0.5)
    assert DEFAULT_P == 0.5
    assert spec.input_dropout == 0.0


@given(probabilities | st.sampled_from([0, 1]))
def test_single_p(p):
    """A single p stands for every hidden layer."""
    assert Mlp(**VALID, dropout=p).dropout == (p, p)


def test_single_p_in_json():
    """A single p stands for every hidden layer in JSON too."""
    assert Mlp.model_validate_json(json.dumps(VALID | {"dropout": 0.25})).dropout == (0.25, 0.25)


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0])
def test_bounds_of_p_are_allowed(p):
    """Both bounds are probabilities: 0 never drops and 1 always does."""
    assert Mlp(**VALID, dropout=[p, p], input_dropout=p).dropout == (p, p)


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"hidden": [5], "dropout": -0.1}, "dropout.0", "greater than or equal to 0"),
        ({"hidden": [5], "dropout": 1.1}, "dropout.0", "less than or equal to 1"),
        ({"dropout": [0.5, 1.5]}, "dropout.1", "less than or equal to 1"),
        ({"dropout": [0.5, float("nan")]}, "dropout.1", "finite number"),
        ({"hidden": [5], "dropout": float("nan")}, "dropout.0", "finite number"),
        ({"hidden": [5], "dropout": float("inf")}, "dropout.0", "finite number"),
        ({"dropout": ["0.5", 0.5]}, "dropout.0", "valid number"),
        ({"dropout": [True, 0.5]}, "dropout.0", "valid number"),
        ({"dropout": True}, "dropout", "valid tuple"),
        ({"dropout": None}, "dropout", "valid tuple"),
        ({"dropout": []}, "", "0 probabilities for 2 hidden layers"),
        ({"dropout": [0.5]}, "", "1 probabilities for 2 hidden layers: give one for each, or a single number for all"),
        ({"dropout": [0.5, 0.5, 0.5]}, "", "3 probabilities for 2 hidden layers"),
        ({"input_dropout": -0.1}, "input_dropout", "greater than or equal to 0"),
        ({"input_dropout": 1.1}, "input_dropout", "less than or equal to 1"),
        ({"input_dropout": float("nan")}, "input_dropout", "finite number"),
        ({"inputs": 0}, "inputs", "greater than or equal to 1"),
        ({"inputs": 65537}, "inputs", "less than or equal to 65536"),
        ({"inputs": 4.0}, "inputs", "valid integer"),
        ({"inputs": True}, "inputs", "valid integer"),
        ({"hidden": []}, "hidden", "at least 1 item"),
        ({"hidden": [1] * 257}, "hidden", "at most 256 items"),
        ({"hidden": [5, 0]}, "hidden.1", "greater than or equal to 1"),
        ({"hidden": [5, "6"]}, "hidden.1", "valid integer"),
        ({"hidden": 5}, "hidden", "valid tuple"),
        ({"activation": "swish"}, "activation", "'relu'"),
        ({"norm": "group"}, "norm", "'batch'"),
        ({"kind": "cnn"}, "kind", "'mlp'"),
        ({"residual": True}, "", "at least one hidden layer as wide as the layer before it"),
        ({"hiden": [5]}, "hiden", "Extra inputs are not permitted"),
        ({"head": {"kind": "regression", "classes": 2}}, "head.regression.classes", "Extra inputs are not permitted"),
        ({"head": {"kind": "regression", "outputs": 0}}, "head.regression.outputs", "greater than or equal to 1"),
        ({"head": {"kind": "classification", "classes": 1}}, "head.classification.classes", "or equal to 2"),
        ({"head": {"kind": "classification"}}, "head.classification.classes", "Field required"),
        ({"head": {"kind": "ranking"}}, "head", "'classification'"),
    ],
)
def test_refused(changes, place, message):
    """A spec that is wrong in one place is refused with one error that names the place."""
    with pytest.raises(ValidationError) as caught:
        Mlp.model_validate(VALID | changes)
    errors = caught.value.errors()
    assert [".".join(map(str, error["loc"])) for error in errors] == [place]
    assert message in errors[0]["msg"]


@pytest.mark.parametrize("field", ["inputs", "hidden", "head"])
def test_required(field):
    """Inputs, hidden layers and head have no defaults."""
    with pytest.raises(ValidationError, match="Field required"):
        Mlp.model_validate({name: value for name, value in VALID.items() if name != field})


@pytest.mark.parametrize("value", [Mlp(**VALID), RegressionHead(), ClassificationHead(classes=2)])
def test_frozen(value):
    """No field of a spec or of a head can be changed."""
    for field in type(value).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, field, getattr(value, field))


@pytest.mark.parametrize(
    ("head", "width"),
    [
        (RegressionHead(outputs=3), 3),
        (RegressionHead(outputs=3, variance=True), 6),
        (ClassificationHead(classes=7), 7),
    ],
)
def test_width_of_head(head, width):
    """A head emits one number per output or class, and two per output with a variance."""
    assert head.width == width


def test_layers_in_full():
    """A spec spells out linear → norm → activation → dropout, and adds what it skips only where widths agree."""
    spec = Mlp(
        inputs=4,
        hidden=(4, 5),
        activation="tanh",
        norm="layer",
        dropout=(0.1, 0.2),
        input_dropout=0.3,
        residual=True,
        head=ClassificationHead(classes=3),
    )
    assert spec.layers() == (
        Dropout("input_dropout", 4, 0.3),
        Block(
            "hidden1",
            (
                Linear("linear", 4, 4),
                Norm("norm", "layer", 4),
                Activation("activation", "tanh", 4),
                Dropout("dropout", 4, 0.1),
            ),
            residual=True,
        ),
        Block(
            "hidden2",
            (
                Linear("linear", 4, 5),
                Norm("norm", "layer", 5),
                Activation("activation", "tanh", 5),
                Dropout("dropout", 5, 0.2),
            ),
            residual=False,
        ),
        Linear("head", 5, 3),
    )


@given(mlps())
def test_every_hidden_layer_has_a_site(spec):
    """There is a dropout site for each hidden layer, p = 0 or not, and one for the inputs only above 0."""
    expected = [(width, p) for width, p in zip(spec.hidden, spec.dropout, strict=True)]
    if spec.input_dropout > 0:
        expected.insert(0, (spec.inputs, spec.input_dropout))
    assert [(site.width, site.p) for site in dropout_sites(spec.layers())] == expected
