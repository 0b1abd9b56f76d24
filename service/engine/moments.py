"""A committee's mean and covariance in a single pass: no masks, no samples, no seed. Approximate.

Units are taken to be normal given their mean and variance, as in Brach, Sick & Dürr (2020). Unlike there, they are not
taken to be independent: what dropout does to a unit is independent of all else, but the next layer mixes it into all of
its units, and to forget that makes the spread of the outputs too small. So a row's state is a mean, and a covariance
F Fᵀ + diag(own) whose columns F are the independent sources so far, carried along exactly by linear layers and, by
activations, in proportion to each unit's covariance with its own input (Stein's lemma; Price 1958 for pairs of units),
the rest of the variance becoming the unit's own.

    product      μ' = Wᵀμ + b           F' = Wᵀ [F, diag(√own)]          own' = 0
    activation   μ' = E f(z)            F' = E[f'(z)] F                  own' = Var f(z) − E[f'(z)]² Var z
    dropout      μ' = μ                 F' = F                           own' = own + p/(1−p) (μ² + Var)

Row by row, so that a row's bits depend on nothing else. Knows nothing of what the outputs mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from models.features import Float32
from models.layers import ActivationName
from service.engine.kernel.program import unpanelled
from service.engine.masks import kept_scale
from service.engine.plan import Network
from service.engine.steps import Activate, Drop, Product
from service.engine.tiles import ACTIVATIONS

# A row of more would hold a thread, and its covariance memory, for too long.
_MOST_OUTPUTS, _MOST_WORK = 1024, 1_000_000_000
_LEAK = 0.01  # torch.nn.LeakyReLU's slope below 0
# Nodes of Gauss and Hermite's quadrature, for activations without a closed form.
_NODES, _WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(32))
_WEIGHTS = _WEIGHTS / math.sqrt(2.0 * math.pi)


class NotCovered(Exception):
    """The network has a layer whose moments are not known here; the text names it."""


@dataclass(frozen=True, slots=True)
class _State:
    """mean [n]; factor [n, sources], whose rows' squares add up to `shared` [n]; own [n]."""

    mean: Tensor
    factor: Tensor
    shared: Tensor
    own: Tensor

    @property
    def variance(self) -> Tensor:
        return self.shared + self.own


_Layer = Callable[[_State], _State]


class Moments:
    """A network's layers, made ready for moments under given dropout probabilities. Raises NotCovered.

    `work` is about how many multiply-adds a row takes.
    """

    def __init__(self, network: Network, what_if: float | None = None) -> None:
        if network.outputs > _MOST_OUTPUTS:
            raise NotCovered("so many outputs")
        ps = network.probabilities(what_if)
        self._layers: list[_Layer] = []
        self.work = sources = 0
        fresh = False
        for step in network.steps:
            match step:
                case Product(inputs=inputs, outputs=outputs):
                    self.work += inputs * outputs * (1 + sources + fresh)
                    sources, fresh = sources + inputs * fresh, False
                    self._layers.append(partial(_product, *_dense(step, ordered=network.row_plan.kind == "ordered")))
                case Activate(function=function):
                    fresh = fresh or sources > 0
                    self._layers.append(partial(_activation, function))
                case Drop(site=site):
                    fresh = fresh or ps[site] > 0
                    self._layers.append(partial(_dropout, kept_scale(ps[site])))
                case _:
                    name = {"Normalise": "layer normalisation"}.get(type(step).__name__, "residual blocks")
                    raise NotCovered(name)
        if self.work > _MOST_WORK:
            raise NotCovered("layers so wide")

    def of(self, row: Float32) -> tuple[Tensor, Tensor]:
        """The mean [outputs] and the covariance [outputs, outputs] of what a committee says of a row [inputs]."""
        x = torch.from_numpy(row).double()
        state = _State(x, x.new_empty(len(x), 0), torch.zeros_like(x), torch.zeros_like(x))
        for layer in self._layers:
            state = layer(state)
        return state.mean, state.factor @ state.factor.T + state.own.diag()


def _dense(step: Product, *, ordered: bool) -> tuple[Tensor, Tensor]:
    """A product's weight [outputs, inputs] and bias [outputs], whichever way it is laid out."""
    weight = unpanelled(step.weight, step.inputs) if ordered else step.weight[: step.inputs].cpu()
    return weight[:, : step.outputs].T.double().contiguous(), step.bias[: step.outputs].cpu().double()


def _product(weight: Tensor, bias: Tensor, state: _State) -> _State:
    carried = [weight @ state.factor] if state.factor.shape[1] else []
    if bool(state.own.any()):
        carried.append(weight * state.own.sqrt())
    factor = torch.cat(carried, dim=1) if carried else state.factor.new_empty(len(bias), 0)
    shared = torch.einsum("us,us->u", factor, factor)
    return _State(weight @ state.mean + bias, factor, shared, torch.zeros_like(bias))


def _dropout(scale: float, state: _State) -> _State:
    if scale == 0.0:  # p = 1
        return _State(*(torch.zeros_like(part) for part in (state.mean, state.factor, state.shared, state.own)))
    # Kept with probability 1/scale and multiplied by it: E m = 1, Var m = scale − 1 = p / (1 − p).
    own = state.own + (scale - 1.0) * (state.mean.square() + state.variance)
    return _State(state.mean, state.factor, state.shared, own)


def _activation(function: ActivationName, state: _State) -> _State:
    variance = state.variance
    deviation = variance.sqrt()
    mean, second, gain = (
        _rectified(state.mean, variance, deviation, 0.0 if function == "relu" else _LEAK)
        if function in ("relu", "leaky_relu")
        else _by_quadrature(ACTIVATIONS[function], state.mean, deviation)
    )
    if not bool(variance.any()):
        return _State(mean, state.factor, state.shared, state.own)
    shared = gain.square() * state.shared
    own = second - mean.square() - shared
    return _State(mean, gain[:, None] * state.factor, shared, own.clamp_(min=0.0))


def _rectified(mean: Tensor, variance: Tensor, deviation: Tensor, leak: float) -> tuple[Tensor, Tensor, Tensor]:
    """E f, E f² and E f' of f(z) = z above 0 and leak · z below, z normal (Frey & Hinton 1999)."""
    certain = deviation == 0.0
    alpha = torch.where(certain, torch.sign(mean) * math.inf, mean / deviation).nan_to_num(nan=0.0)
    above = torch.special.ndtr(alpha)
    density = torch.exp(-0.5 * alpha.square()) / math.sqrt(2.0 * math.pi)
    first = mean * above + deviation * density
    second = (mean.square() + variance) * above + mean * deviation * density
    return (
        leak * mean + (1.0 - leak) * first,
        leak**2 * (mean.square() + variance - second) + second,
        leak + (1.0 - leak) * above,
    )


def _by_quadrature(
    function: Callable[[Tensor], Tensor], mean: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """E f, E f² and E f' of a function, by Stein's lemma E f' = E[f(z) (z − μ)] / σ²."""
    values = function(mean[:, None] + deviation[:, None] * _NODES)  # [n, nodes]
    slope = torch.where(deviation > 0.0, values @ (_WEIGHTS * _NODES) / deviation, 0.0)
    return values @ _WEIGHTS, values.square() @ _WEIGHTS, slope


def expectation(function: Callable[[Tensor], Tensor], mean: Tensor, variance: Tensor) -> Tensor:
    """E f(z) of normal z [n], for each."""
    return function(mean[..., None] + variance.sqrt()[..., None] * _NODES) @ _WEIGHTS


@lru_cache(maxsize=64)
def spread_points(dimensions: int, count: int = 512) -> Tensor:
    """Points [count, dimensions] that stand for a standard normal: Sobol's sequence, through the inverse normal."""
    uniform: Tensor = torch.quasirandom.SobolEngine(dimensions).draw(  # type: ignore[no-untyped-call]
        count, dtype=torch.float64
    )
    return torch.special.ndtri(uniform + 0.5 / count)  # type: ignore[no-any-return]


def root(covariance: Tensor) -> Tensor:
    """A matrix R with R Rᵀ = covariance, which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    found: Tensor = vectors * values.clamp(min=0.0).sqrt()
    return found


def rows_of(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Moments of single rows as [rows, outputs] and [rows, outputs, outputs]."""
    return torch.stack([mean for mean, _ in parts]), torch.stack([covariance for _, covariance in parts])
