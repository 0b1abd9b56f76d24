"""The engine's front door: queries in, outputs out, by the kernel or by PyTorch.

PyTorch evaluates on a GPU, and where the kernel is missing. Knows nothing of queues or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from models.features import Float32
from service.engine.evaluation import Evaluation
from service.engine.mask_cache import MaskCache
from service.engine.ordered import Ordered
from service.engine.plan import Cut, Network
from service.engine.query import Query
from service.engine.tiled import Tiled
from service.engine.workspace import Workspace


def use_one_thread() -> None:
    """Every torch operation of this process runs on the thread that calls it; pieces are what runs in parallel.

    Not a matter of speed alone: kernels that split a tensor over threads may give other bits at the seams.
    """
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def usable_device(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """The device to evaluate on; "auto" takes a GPU where there is one. Raises RuntimeError if there must be one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device is set to cuda, but PyTorch finds no GPU here: use auto or cpu")
    return wanted


def evaluation(
    network: Network,
    queries: Sequence[Query],
    threads: int = 1,
    *,
    cut: Cut | None = None,
    cache: MaskCache | None = None,
) -> Evaluation:
    """The evaluation of queries that may share one; see `Evaluation`. `cache` is for PyTorch alone."""
    if network.row_plan.kind == "ordered":
        return Ordered(network, queries, threads, cut)
    return Tiled(network, queries, threads, cut, cache)


def evaluate(network: Network, query: Query) -> Float32:
    """A query's outputs, [samples, rows, outputs], on the calling thread alone."""
    asked, workspace = evaluation(network, [query]), Workspace()
    for stage in asked.stages():
        for piece in stage:
            piece(workspace)
    return asked.of(0)
