"""Fits the constants of `service.engine.cost` to what queries take here, on one thread.

    python -m benchmarks.cost

Prints the constants, how far estimates with them are off, and how far with those that stand in the source: a factor of
two on another machine is nothing to mend, for they bound queues and say where a query is evaluated. Writes nothing.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from itertools import count, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks import store
from benchmarks.timing import alternate, machine
from models.repository import Repository
from service.engine import cost
from service.engine.evaluate import use_one_thread
from service.engine.query import Committee
from service.engine.workspace import Workspace
from service.jobs import Job, Sampling
from service.served import Loader, ServedModel
from service.settings import SHIPPED_STORE

ROWS = (1, 8, 64, 512)
SAMPLES = (0, 10, 100, 1000)  # 0: a prediction
MOST_SECONDS = 0.5  # of a single query, as estimated
NAMES = ("_MULTIPLY_ADD", "_LANE", "_SUMMARISED", "_QUERY")


class Measured(NamedTuple):
    """A query, what it has of each cost, and the nanoseconds it took and was estimated to take."""

    title: str
    amounts: tuple[float, ...]
    took: float
    estimated: float


def main() -> None:
    """Measures, fits, and says how well."""
    use_one_thread()
    print(machine())
    seen = [measure(model, rows, samples) for model, rows, samples in product(models(), ROWS, SAMPLES)]
    queries = [query for query in seen if query is not None]
    took = np.array([query.took for query in queries])
    amounts = np.array([query.amounts for query in queries])
    # Relative errors count: a small query that is estimated at twice its cost is as wrong as a large one.
    constants, _ = nnls(amounts / took[:, None], np.ones(len(took)))
    fitted = amounts @ constants
    for query, now in zip(queries, fitted, strict=True):
        print(f"{query.title:<42} {query.took / 1e3:>10.0f} µs   fitted × {now / query.took:.2f}", end="")
        print(f"   in the source × {query.estimated / query.took:.2f}")
    for name, constant in zip(NAMES, constants, strict=True):
        print(f"{name} = {constant:.3g}   # the source has {getattr(cost, name):g}")
    for title, estimates in (("fitted", fitted), ("in the source", [query.estimated for query in queries])):
        factors = sorted(
            math.exp(abs(math.log(estimate / took))) for estimate, took in zip(estimates, took, strict=True)
        )
        print(f"{title}: off by a factor of {statistics.median(factors):.2f} as a median, {factors[-1]:.2f} at most")


def models() -> list[ServedModel]:
    """Those that ship and those of the other benchmarks."""
    with tempfile.TemporaryDirectory(prefix="penumbra-cost-") as folder:
        store.fill(Path(folder))
        found = [
            Loader(repository)(name, repository.versions(name)[-1])
            for repository in (Repository(SHIPPED_STORE), Repository(Path(folder)))
            for name in repository.names()
        ]
    return [model for model in found if model is not None]


def measure(model: ServedModel, rows: int, samples: int) -> Measured | None:
    """One kind of query; None where it would take too long."""
    network, seeds, workspace = model.network, count(), Workspace()
    inputs = np.zeros((rows, network.inputs)) + 0.1
    cut = network.trained if samples else model.full[0]

    def job() -> Job:
        sampling = Sampling(inputs, Committee(next(seeds), samples)) if samples else None
        return Job(model, inputs, (network,), (cut,), sampling)

    def run() -> None:
        asked = job()
        for stage in asked.stages([asked], 1):
            for piece in stage:
                piece(workspace)

    estimated = job().seconds
    if estimated > MOST_SECONDS:
        return None
    pairs = rows * samples
    amounts = (
        (network.flops_per_row / 2 - cut.work) * rows + cut.work * pairs,
        float(network.lanes * samples),
        float(network.outputs * pairs),
        1.0,
    )
    took = alternate({"": run}, seconds=0.3)[""] * 1e6
    title = f"{model.manifest.name}, {rows} rows, {samples} samples"
    return Measured(title, amounts, took, estimated * 1e9)


if __name__ == "__main__":
    main()
