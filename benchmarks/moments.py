"""python -m benchmarks.moments: method moments against sampling, on every model that ships.

How far its means and spreads are from those of 10,000 samples on held-out rows, and how long each takes, side by side.
Writes its section of benchmarks/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

import numpy as np

from benchmarks.report import figure, table, write_section
from benchmarks.timing import alternate, machine
from models.data import split
from models.features import Float64
from models.recipes import recipes
from models.repository import Repository
from service.analytic import Analytic
from service.engine.evaluate import use_one_thread
from service.engine.query import Committee
from service.engine.uncertainty import RegressionSummary
from service.engine.workspace import Workspace
from service.jobs import Job, Sampled, Sampling
from service.served import Loader, ServedModel
from service.settings import SHIPPED_STORE

ROWS, SAMPLES, FEW = 100, 10_000, 100
_ABOUT = f"""\
`method: "moments"` beside {SAMPLES:,} samples of the same committee, {ROWS} held-out rows, every output. *Off* is the
distance of its mean, or of its epistemic spread, from the samples'; for `diabetes` in per cent of the samples' spread,
for classes in hundredths of a probability. {SAMPLES:,} samples are themselves uncertain by 1 % of the spread in their
mean and 0.7 % in their spread. Times are of a single row, summaries included, as one thread spends them on a
processor; medians of turns that follow one another."""


def main() -> None:
    """Measures and writes."""
    use_one_thread()
    rows = [_compared(name) for name in Repository(SHIPPED_STORE).names()]
    header = ["model", "mean off, average", "at most", "spread off, average", "at most", "ms a row"]
    header += [f"times as fast as {samples:,} samples" for samples in (SAMPLES, FEW)]
    write_section("moments", f"## Moments against sampling\n\n{machine()}\n\n{_ABOUT}\n\n{table(header, rows)}")


def _compared(name: str) -> list[str]:
    repository, dataset = Repository(SHIPPED_STORE), recipes()[name].load()
    model = Loader(repository)(name, repository.versions(name)[-1])
    assert model is not None, "what ships is served. This is a bug."
    rows = dataset.inputs[split(len(dataset.inputs), 0).test][:ROWS]
    worked_out, sampled = (_told(_asked(model, rows, samples)) for samples in (0, SAMPLES))
    (mean, spread), (expected, wide) = map(_mean_and_spread, (worked_out, sampled))
    unit = wide if isinstance(sampled.summary, RegressionSummary) else 1.0
    off, too_wide = (100 * np.abs(ours - theirs) / unit for ours, theirs in ((mean, expected), (spread, wide)))
    took = alternate(
        {str(samples): _runner(model, rows[:1], samples) for samples in (0, FEW, SAMPLES)}, seconds=4, clock=thread_time
    )
    ratios = (took[str(samples)] / took["0"] for samples in (SAMPLES, FEW))
    figures = (off.mean(), off.max(), too_wide.mean(), too_wide.max(), took["0"], *ratios)
    return [name, *(figure(float(value)) for value in figures)]


def _asked(model: ServedModel, rows: Float64, samples: int) -> Job:
    """A job of so many samples, or of method moments."""
    sampling = Sampling(rows, Committee(1, samples))
    if not samples:
        return Analytic(model, sampling._replace(method="moments"), model.moments(None))
    return Job(model, rows, (model.network,), (model.network.trained,), sampling)


def _told(job: Job, workspace: Workspace | None = None) -> Sampled:
    workspace = workspace or Workspace()
    for stage in job.stages([job], 1):
        for piece in stage:
            piece(workspace)
    answer: Sampled = job.answer()
    return answer


def _runner(model: ServedModel, rows: Float64, samples: int) -> Callable[[], object]:
    workspace = Workspace()
    return lambda: _told(_asked(model, rows, samples), workspace)


def _mean_and_spread(told: Sampled) -> tuple[Float64, Float64]:
    summary = told.summary
    if isinstance(summary, RegressionSummary):
        mean, spread = summary.mean, summary.epistemic_std
    else:
        mean, spread = summary.probabilities, summary.std
    assert spread is not None, "there are many samples. This is a bug."
    return mean, spread


if __name__ == "__main__":
    main()
