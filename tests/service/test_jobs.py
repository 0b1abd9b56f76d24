"""A request as work: of several rows that overflow the first is named, in whichever order pieces of work end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.features import InvalidRows
from models.repository import Repository
from service import analytic, jobs
from service.analytic import Analytic
from service.engine.query import Committee
from service.engine.workspace import Workspace
from service.jobs import Job, Sampling
from service.served import Loader
from tests.api.stores import publish

ROWS = np.zeros((10, 3))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Job]:
    """Samples and moments of ten rows, each of which overflows, and is concluded in a piece of its own."""
    publish(tmp_path, "vast", weight=3e38, hidden=(16,) * 5)
    model = Loader(Repository(tmp_path))("vast", "1")
    committee = Committee(1, 2)
    monkeypatch.setattr(jobs, "SUMMARY_NUMBERS", 1)
    monkeypatch.setattr(analytic, "_PIECE_SECONDS", 0.0)
    cuts = (model.network.cut(committee.p),)
    return {
        "samples": Job(model, ROWS, (model.network,), cuts, Sampling(ROWS, committee)),
        "moments": Analytic(model, Sampling(ROWS, committee, method="moments"), model.moments(None)),
    }


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("method", ["samples", "moments"])
def test_the_first_row_that_overflows_is_named(made: dict[str, Job], method: str, backwards: bool) -> None:
    """How work is cut and who does it changes nothing about an error either."""
    job, workspace = made[method], Workspace()
    for stage in job.stages([job], 1):
        assert len(stage) in {1, 10}
        for piece in reversed(stage) if backwards else stage:
            piece(workspace)
    assert isinstance(job.failure, InvalidRows)
    assert [field for field, _ in job.failure.complaints] == ["inputs[0]"]
