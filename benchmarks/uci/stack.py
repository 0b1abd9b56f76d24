"""Many networks of one shape, trained at once: a layer of all of them is one batched matrix product.

Small networks on a processor spend their time between operations, not in them; a stack of twenty takes about as long as
two or three alone. Each network has training rows, a dropout probability and a weight decay of its own, and none sees
another. Two hidden layers or more, a variance head; knows nothing of tables, files or the service.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.architecture import VARIANCE_FLOOR

LEARNING_RATE = 3e-3
WARM_UP = 100  # steps, in which the learning rate rises
AVERAGED = 0.04  # the share of the planned steps that weights are averaged over
_TAPE = 1 << 22  # numbers


@dataclass(frozen=True, slots=True)
class Plan:
    """What the networks of a stack share: widths from inputs to head, and how long they are to train."""

    widths: tuple[int, ...]
    steps: int
    batch: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What each network has of its own, [networks]: dropout probability, weight decay, and SiLU in place of ReLU."""

    p: Tensor
    decay: Tensor
    silu: Tensor

    def kept(self, places: Tensor) -> Settings:
        """Those of some networks."""
        return Settings(self.p[places], self.decay[places], self.silu[places])


@dataclass(frozen=True, slots=True)
class Weights:
    """Of each layer of all networks: matrices [networks, inputs, outputs] and biases [networks, 1, outputs]."""

    matrices: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @property
    def all(self) -> list[Tensor]:
        """Everything that is learnt."""
        return [*self.matrices, *self.biases]

    def kept(self, places: Tensor) -> Weights:
        """Copies of some networks' weights."""
        return Weights(
            *(tuple(part.detach()[places].clone() for part in parts) for parts in (self.matrices, self.biases))
        )


class Tape:
    """Dropout masks, from a long tape of random numbers that is entered at a random place each time.

    Drawing fresh ones would take as long as the products do.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._numbers = torch.rand(_TAPE, generator=generator)
        self._generator = generator

    def masks(self, p: Tensor, shape: torch.Size) -> Tensor:
        """0 where a unit is dropped, else 1 / (1 − p): [networks, rows, units]; p is [networks]."""
        size = math.prod(shape)
        if size > _TAPE:
            numbers = torch.rand(shape, generator=self._generator)
        else:
            start = int(torch.randint(0, _TAPE - size + 1, (), generator=self._generator))
            numbers = self._numbers[start : start + size].view(shape)
        threshold = p[:, None, None]
        return torch.ge(numbers, threshold).float().div_(1.0 - threshold)


class Stack:
    """Networks in training. Averaged weights are the ones to use."""

    def __init__(self, plan: Plan, settings: Settings, generator: torch.Generator) -> None:
        self.plan, self.settings = plan, settings
        self.tape, self._generator = Tape(generator), generator
        self.steps = 0
        self._take(_fresh(plan.widths, len(self), generator))
        self.averaged = self._weights.kept(torch.arange(len(self)))

    def __len__(self) -> int:
        return len(self.settings.p)

    def keep(self, places: Tensor) -> None:
        """Goes on with some of the networks only."""
        averaged, state = self.averaged.kept(places), self._optimiser.state
        moments = [{name: _some(value, places) for name, value in state[each].items()} for each in self._weights.all]
        self.settings, self.averaged = self.settings.kept(places), averaged
        self._take(self._weights.kept(places))
        self._optimiser.state.update(zip(self._weights.all, moments, strict=True))

    def advance(self, rows: Tensor, targets: Tensor, own: Tensor, steps: int) -> None:
        """Trains for some steps, on rows [rows, inputs] and targets [rows, 1] in standard units.

        own [networks, most] says which rows each network learns from, filled up with −1.
        """
        for batch in itertools.islice(self._batches(own), steps):
            outputs = self.outputs(self._weights, rows[batch], dropout=True)
            mean, variance = split_head(outputs)
            # The negative log-likelihood of a normal, less a constant; each network's mean loss is its own.
            loss = 0.5 * ((targets[batch] - mean).square() / variance + variance.log())
            self._optimiser.zero_grad()
            loss.mean(dim=(1, 2)).sum().backward()  # type: ignore[no-untyped-call]
            self._step()

    def outputs(self, weights: Weights, rows: Tensor, *, dropout: bool) -> Tensor:
        """Head outputs [networks, rows, 2] for rows [networks, rows, inputs], of thinned networks or the full ones."""
        x, last = rows, len(weights.matrices) - 1
        for place, (matrix, bias) in enumerate(zip(weights.matrices, weights.biases, strict=True)):
            x = torch.baddbmm(bias, x, matrix)
            if place < last:
                x = torch.where(self.settings.silu[:, None, None], functional.silu(x), functional.relu(x))
                x = x * self.tape.masks(self.settings.p, x.shape) if dropout else x
        return x

    @torch.no_grad()
    def draws(self, rows: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Means and variances [samples, networks, rows] in standard units, of thinned averaged networks, float64.

        rows are [networks, rows, inputs].
        """
        drawn = [split_head(self.outputs(self.averaged, rows, dropout=True).double()) for _ in range(samples)]
        means, variances = (torch.stack(parts).squeeze(-1) for parts in zip(*drawn, strict=True))
        return means, variances

    def state_dict(self, place: int) -> dict[str, Tensor]:
        """One network's averaged weights, by the names that `models.networks` gives them."""
        named = {}
        last = len(self.averaged.matrices)
        for number, (matrix, bias) in enumerate(
            zip(self.averaged.matrices, self.averaged.biases, strict=True), start=1
        ):
            layer = "head" if number == last else f"hidden{number}.linear"
            named[f"{layer}.weight"], named[f"{layer}.bias"] = matrix[place].T.contiguous(), bias[place, 0]
        return named

    def _take(self, weights: Weights) -> None:
        self._weights = weights
        for each in weights.all:
            each.requires_grad_()
        self._optimiser = torch.optim.Adam(weights.all, lr=LEARNING_RATE, fused=True)

    def _batches(self, own: Tensor) -> Iterator[Tensor]:
        """Row numbers [networks, batch], without end.

        Each pass takes as many rows of each network's own as the one with the fewest has, in a new random order.
        """
        padding = (own < 0).float()
        fewest = own.shape[1] - int(padding.sum(dim=1).max())
        size = min(self.plan.batch, fewest)
        while True:
            order = (torch.rand(own.shape, generator=self._generator) + padding).argsort(dim=1)
            for start in range(0, fewest - size + 1, size):
                yield own.gather(1, order[:, start : start + size])

    @torch.no_grad()
    def _step(self) -> None:
        self.steps += 1
        rate = LEARNING_RATE * min(1.0, self.steps / WARM_UP)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        for matrix in self._weights.matrices:  # decoupled, each network's own (Loshchilov & Hutter 2019)
            matrix.mul_(1.0 - rate * self.settings.decay[:, None, None])
        share = max(1.0 / (AVERAGED * self.plan.steps), 1.0 / self.steps)
        torch._foreach_lerp_(self.averaged.all, [each.detach() for each in self._weights.all], share)


def split_head(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Head outputs [..., 2] → means and variances [..., 1]."""
    mean, pre_activation = outputs.chunk(2, dim=-1)
    return mean, functional.softplus(pre_activation) + VARIANCE_FLOOR


def _fresh(widths: Sequence[int], networks: int, generator: torch.Generator) -> Weights:
    """As PyTorch starts linear layers: uniform within 1 / √inputs."""
    matrices: list[Tensor] = []
    biases: list[Tensor] = []
    for before, after in itertools.pairwise(widths):
        for kept, rows in ((matrices, before), (biases, 1)):
            drawn = torch.rand(networks, rows, after, generator=generator)
            kept.append((2.0 * drawn - 1.0) / math.sqrt(before))
    return Weights(tuple(matrices), tuple(biases))


def _some(value: Any, places: Tensor) -> Any:
    """An optimiser's state for some networks; its count of steps is shared by all."""
    return value[places].clone() if value.ndim else value
