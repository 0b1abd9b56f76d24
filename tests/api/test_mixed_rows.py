"""Models of tables and of images over HTTP: raw objects, nested images, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.architecture import ClassificationHead, FfStack, Mlp, RegressionHead
from models.features import Boolean, Category, ClassLabel, Feature, Target
from models.manifest import seal
from models.repository import Repository, serialise
from tests.api.wire import assert_problem
from tests.networks import module_of

INPUTS = (
    Feature(name="rooms", range=(1, 9), mean=4.0, scale=2.0),
    Category(name="heating", kind="category", categories=("gas", "oil")),
    Feature(name="age", range=(0, 90), mean=40.0, scale=10.0, missing=True),
    Boolean(name="garden", kind="boolean", mean=0.25, scale=0.5),
)
ROW = {"rooms": 3, "heating": "gas", "age": None, "garden": True}
HOMES, IMAGES = "/v1/models/homes", "/v1/models/images"


def _publish(store: Path, name: str, architecture: Any, inputs: Any, outputs: Any) -> None:
    weights = serialise(module_of(architecture).state_dict())
    manifest = seal(
        name=name,
        version="1",
        task=architecture.head.kind,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        inputs=inputs,
        outputs=outputs,
        architecture=architecture,
    )
    Repository(store).publish(manifest, weights)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service with a model of a table and one of images."""
    from tests.api.live import Server

    store = tmp_path_factory.mktemp("mixed")
    width = sum(each.width for each in INPUTS)
    target = (Target(name="price", mean=100.0, scale=10.0),)
    _publish(store, "homes", Mlp(inputs=width, hidden=(16,), dropout=0.3, head=RegressionHead()), INPUTS, target)
    stack = FfStack(image=(4, 6), patch=2, dim=8, depth=2, dropout=0.2, head=ClassificationHead(classes=3))
    pixels = tuple(Feature(name=f"pixel_{y}_{x}", range=(0, 9)) for y in range(4) for x in range(6))
    _publish(store, "images", stack, pixels, tuple(ClassLabel(name=name) for name in "abc"))
    server = Server(store=store)
    yield server.client
    server.stop()


def _sampled(client: Any, path: str, row: Any) -> Any:
    answer = client.post(f"{path}/sample", json={"inputs": [row], "seed": 7, "samples": 20})
    assert answer.status_code == 200, answer.text
    return answer.content


def test_a_row_of_mixed_kinds(client: Any) -> None:
    """An object, a list, and the numbers that stand for both over the protocol: one answer, byte for byte."""
    as_object, as_list = (_sampled(client, HOMES, row) for row in (ROW, list(ROW.values())))
    assert as_object == as_list
    data = [3.0, 0.0, None, 1.0]
    tensor = {"name": "inputs", "shape": [1, 4], "datatype": "FP32", "data": data}
    body = {"inputs": [tensor], "parameters": {"seed": 7, "samples": 20}}
    found = client.post("/v2/models/homes/infer", json=body).json()
    mean = next(each["data"] for each in found["outputs"] if each["name"] == "mean")
    native = client.post(f"{HOMES}/sample", json={"inputs": [ROW], "seed": 7, "samples": 20}).json()["mean"]
    np.testing.assert_allclose(mean, np.ravel(native), rtol=1e-6)


def test_every_value_matters(client: Any) -> None:
    """Another category, a missing value that is there, and an unknown category give other answers."""
    changes: list[dict[str, Any]] = [{}, {"heating": "oil"}, {"heating": "peat"}, {"age": 40}, {"garden": False}]
    assert len({_sampled(client, HOMES, ROW | change) for change in changes}) == len(changes)
    assert _sampled(client, HOMES, ROW | {"heating": "peat"}) == _sampled(client, HOMES, ROW | {"heating": None})


def test_the_manifest_says_what_to_send(client: Any) -> None:
    """Kinds, categories in place of ranges, and whether null may be sent."""
    rooms, heating, age, garden = client.get(HOMES).json()["inputs"]
    assert (rooms["kind"], rooms["range"], "missing" in rooms) == ("number", [1, 9], False)
    assert (heating["kind"], heating["categories"], "range" in heating) == ("category", ["gas", "oil"], False)
    assert (age["kind"], age["missing"]) == ("number", True)
    assert garden["kind"] == "boolean"


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (ROW | {"rooms": None}, "inputs[0].rooms", "must not be null: no value was missing in training"),
        (ROW | {"rooms": "3"}, "inputs[0].rooms", "must be a number"),
        (ROW | {"heating": 1.5}, "inputs[0].heating", "must be a text, or null"),
        (ROW | {"garden": 1}, "inputs[0].garden", "must be true or false"),
        ({"rooms": 3}, "inputs[0].heating", "is missing"),
        (ROW | {"x": 1}, "inputs[0]", "has 1 unknown name; known are rooms, heating, age, garden"),
    ],
)
def test_what_is_refused(client: Any, row: Any, field: str, message: str) -> None:
    """422 with the row, the input and the rule; never the value."""
    problem = assert_problem(client.post(f"{HOMES}/predict", json={"inputs": [row]}), 422)
    assert {"field": field, "message": message} in problem["errors"]


def test_images_flat_or_nested(client: Any) -> None:
    """An image nested as height × width gets the bytes that it gets flat; another shape is refused."""
    image = [[(3 * y + x) % 9 for x in range(6)] for y in range(4)]
    flat = [pixel for line in image for pixel in line]
    assert _sampled(client, IMAGES, image) == _sampled(client, IMAGES, flat)
    problem = assert_problem(client.post(f"{IMAGES}/predict", json={"inputs": [image[:3]]}), 422)
    assert problem["errors"] == [{"field": "inputs[0]", "message": "must be an image of 4 × 6 numbers, nested or flat"}]
    assert client.get(IMAGES).json()["reproducibility"]["verified"] is True
