"""Law 8: no global random state, no train mode in the serving path; a seed is never dropped or bent."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.engine.evaluate import evaluate
from service.engine.query import Committee, Query
from tests.networks import Mlp, RegressionHead, compiled, module_of, rows_of

SERVICE = Path(__file__).parents[2] / "service"
FORBIDDEN_CALLS = {
    "manual_seed", "seed", "train", "set_rng_state", "fork_rng", "default_rng", "RandomState", "rand", "randn",
    "randint", "random", "bernoulli", "bernoulli_", "dropout", "dropout_", "load_state_dict",
}  # fmt: skip
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "random", "marshal", "shelve"}


def _trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in sorted(SERVICE.rglob("*.py"))]


def test_no_call_touches_global_random_state_or_train_mode() -> None:
    """No module of the service calls anything that seeds, draws from global state, or trains."""
    found = [
        f"{path.name}:{node.lineno} {node.func.attr}"
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_CALLS
    ]
    assert found == []


def test_no_module_that_runs_code_from_data_or_keeps_random_state_is_imported() -> None:
    """The service imports no pickle and no stdlib random."""
    imported = set()
    for _, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert imported & FORBIDDEN_MODULES == set()
    assert "torch" in imported  # the search sees what there is


def test_evaluation_neither_reads_nor_moves_global_random_state() -> None:
    """Torch's, NumPy's and Python's generators are where they were, and reseeding them changes nothing."""
    spec = Mlp(inputs=6, hidden=(40, 40), dropout=0.5, head=RegressionHead())
    network, query = compiled(spec, module_of(spec)), Query(rows_of(4, 6), Committee(3, 50))
    answers = []
    for state in (0, 1):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002 - the legacy global state is what must not matter
        random.seed(state)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
        answers.append(evaluate(network, query))
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    assert np.array_equal(*answers)


UNUSABLE = ["1e3", "7.0", '"7"', "true", "null", "-1", "9007199254740992", "1e999", "NaN", "[7]", "{}"]


@pytest.mark.parametrize("seed", UNUSABLE)
def test_an_unusable_seed_is_an_error(server: Any, seed: str) -> None:
    """Whatever is not an integer from 0 to 2^53 − 1, spelled as one, is refused as the field `seed`."""
    body = f'{{"inputs": [[0,0,0,0,0,0,0,0,0,0]], "seed": {seed}}}'
    headers = {"Content-Type": "application/json"}
    answer = server.client.post("/v1/models/diabetes/sample", content=body, headers=headers)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["seed"]


@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1])
def test_the_whole_range_of_seeds_is_used_as_given(server: Any, seed: int) -> None:
    """The ends of the range come back as they were sent."""
    answer = server.client.post("/v1/models/diabetes/sample", json={"inputs": [[0] * 10], "seed": seed, "samples": 2})
    assert answer.json()["seed"] == seed
