"""Exports: files that run without this project and answer as it does."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.architecture import ClassificationHead, FfStack, Mlp, RegressionHead
from models.exchange.exporting import export
from models.features import Boolean, Category, Feature
from models.mixed import standardise
from models.repository import Repository
from tests.models.examples import module_of, version_of

MIXED = (
    Feature(name="rooms", range=(1, 9), mean=4.0, scale=2.0),
    Category(name="heating", kind="category", categories=("gas", 'it\'s "oil"')),
    Feature(name="age", range=None, mean=40.0, scale=10.0, missing=True),
    Boolean(name="garden", kind="boolean", mean=0.25, scale=0.5),
)
STACK = FfStack(image=(4, 6), patch=2, dim=5, depth=2, positions=(2, 2), head=ClassificationHead(classes=3))
WIDE = Mlp(
    inputs=7, hidden=(7, 7), norm="layer", residual=True, dropout=0.2, head=RegressionHead(outputs=2, variance=True)
)
PLAIN = Mlp(inputs=3, hidden=(4,), norm="batch", activation="gelu", head=ClassificationHead(classes=2))
ROW = {"rooms": 3, "heating": 'it\'s "oil"', "age": None, "garden": True}
CODES = [3.0, 1.0, np.nan, 1.0]


@pytest.mark.parametrize(
    ("spec", "inputs", "row", "raw"),
    [
        (STACK, None, list(range(24)), [float(i) for i in range(24)]),
        (WIDE, MIXED, ROW, CODES),
        (PLAIN, None, [1, 2, 3], [1.0, 2.0, 3.0]),
    ],
    ids=["stack", "mixed", "plain"],
)
def test_an_export_runs_alone(spec, inputs, row, raw, tmp_path):
    """A process that has PyTorch and not this project gets the full network's outputs."""
    store = Repository(tmp_path / "store")
    store.publish(*version_of(spec, **({"inputs": inputs} if inputs else {})))
    model = store.load("net")
    home = tmp_path / "elsewhere"
    home.mkdir()
    export(model.manifest, model.tensors, home / "net.py")
    code = (
        "import json, sys; sys.modules.update(models=None, service=None); import net; row = json.load(sys.stdin); "
        "print(json.dumps([net.load()(net.encode([row])).tolist(), net.answer([row]).tolist()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, input=json.dumps(row), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outputs, answer = json.loads(done.stdout)
    ours = module_of(spec)
    ours.load_state_dict(dict(model.tensors))
    with torch.no_grad():
        expected = ours(torch.from_numpy(standardise(np.array([raw]), model.manifest.inputs)))
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-6)
    told = expected.softmax(1) if isinstance(spec.head, ClassificationHead) else expected[:, :2]
    np.testing.assert_allclose(answer, told, rtol=1e-6, atol=1e-6)
