"""The engine's specification: one forward of the plain module per sample, the masks multiplied in by hand.

Slow and obvious on purpose; serves nobody. `evaluate` must agree with it to 1e-5 relative on every architecture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.features import Float32
from service.engine.masks import draw_masks
from service.engine.query import Query


class Masked(nn.Module):
    """Stands in for one nn.Dropout and multiplies by the mask it is handed."""

    def __init__(self, site: nn.Dropout) -> None:
        super().__init__()
        self.p = site.p
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[rows, …] → the same; one mask for all rows, its units in the order of x."""
        return x if self.mask is None else x * self.mask.view(x.shape[1:])


def evaluate(network: nn.Module, widths: tuple[int, ...], query: Query) -> Float32:
    """The module's outputs [samples, rows, outputs]; `network` must be in eval mode and keeps its dropout layers."""
    sites = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Dropout)]
    stand_ins = [Masked(module) for _, module in sites]
    try:
        for (name, _), stand_in in zip(sites, stand_ins, strict=True):
            network.set_submodule(name, stand_in)
        return _loop(network, stand_ins, widths, query)
    finally:
        for name, module in sites:
            network.set_submodule(name, module)


def _loop(network: nn.Module, sites: list[Masked], widths: tuple[int, ...], query: Query) -> Float32:
    rows, committee = torch.from_numpy(query.rows), query.committee
    with torch.no_grad():
        if committee is None:
            return np.stack([network(rows).numpy()])
        ps = [site.p if committee.p is None else committee.p for site in sites]
        outputs = []
        first, step = committee.first_sample, committee.step
        for i in range(first, first + committee.samples * step, step):
            for site, mask in zip(sites, draw_masks(committee.seed, i, 1, widths, ps), strict=True):
                site.mask = None if mask is None else torch.from_numpy(mask[0])
            outputs.append(network(rows).numpy())
        return np.stack(outputs)
