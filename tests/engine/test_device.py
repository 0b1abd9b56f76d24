"""Evaluation on a GPU, where there is one: the same masks, outputs that agree with the processor's to 1e-4."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.engine.evaluate import evaluate, evaluation, usable_device
from service.engine.query import Committee, Query
from service.engine.verify import verified_network
from service.engine.workspace import Workspace
from tests.networks import ClassificationHead, Mlp, compiled, module_of, rows_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@needs_gpu
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("rows", [1, 33, 500])
def test_a_gpu_agrees_with_the_processor(rows: int, norm: str) -> None:
    """Predictions and samples, alone and in company; equal masks, or the outputs would differ by far more."""
    spec = Mlp(inputs=16, hidden=(256, 256), dropout=(0.1, 0.5), norm=norm, head=ClassificationHead(classes=5))
    module = module_of(spec)
    here = compiled(spec, module)
    there = verified_network(spec, module.state_dict(), "cuda")
    assert there.row_plan.verified
    queries = [Query(rows_of(rows, 16, i), Committee(i, 40, first_sample=3)) for i in range(3)]
    asked, workspace = evaluation(there, queries), Workspace()
    for stage in asked.stages():
        for piece in stage:
            piece(workspace)
    for place, query in enumerate(queries):
        expected = evaluate(here, query)
        np.testing.assert_allclose(asked.of(place), expected, rtol=1e-4, atol=1e-4)
        assert np.array_equal(asked.of(place), evaluate(there, query))
        full = Query(query.rows)
        np.testing.assert_allclose(evaluate(there, full), evaluate(here, full), rtol=1e-4, atol=1e-4)


@without_gpu
def test_a_gpu_that_is_not_there_is_said_to_be_missing() -> None:
    """The setting asks for one in vain: the service must not quietly serve from the processor."""
    assert usable_device("auto") == usable_device("cpu") == "cpu"
    with pytest.raises(RuntimeError, match="finds no GPU"):
        usable_device("cuda")
