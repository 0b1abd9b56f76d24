"""What every peer runs: the same networks from the same store, sampled the way their users would write it.

Torch and safetensors only, so that it imports in each peer's own environment; the servers beside it add the serving.
A request is {"model", "samples", "inputs"} and perhaps a "seed"; `samples` 0 is a prediction. An answer is {"mean"},
with {"std"} over the samples, nested lists [rows, outputs]; for a classification of probabilities.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Request = dict[str, Any]

# Rows that are folded into one forward: beyond, activations leave the cache and each row takes longer.
MOST_ROWS = 64

torch.set_num_threads(int(os.environ.get("BENCH_TORCH_THREADS", "1")))


class Network:
    """One model: in eval mode, and with its dropout switched on; both share the weights."""

    def __init__(self, folder: Path) -> None:
        spec = json.loads((folder / "manifest.json").read_text())["architecture"]
        tensors = load_file(folder / "weights.safetensors")
        self.classifies = spec["head"]["kind"] == "classification"
        names = [f"hidden{number}.linear" for number in range(1, len(spec["hidden"]) + 1)]
        linears = [_linear(tensors, name) for name in (*names, "head")]
        hidden: list[nn.Module] = []
        for linear, p in zip(linears[:-1], spec["dropout"], strict=True):
            hidden += [linear, nn.ReLU(), nn.Dropout(p)]
        self.thinned = nn.Sequential(*hidden, linears[-1]).train()
        self.full = nn.Sequential(*(m for m in self.thinned if not isinstance(m, nn.Dropout))).eval()

    def predict(self, rows: Tensor) -> Tensor:
        """[rows, inputs] → [rows, outputs], dropout off."""
        return self._finish(self.full(rows))

    def draws(self, rows: Tensor, samples: int) -> Tensor:
        """[rows, inputs] → [samples, rows, outputs]: the rows repeated, one forward."""
        return self._finish(self.thinned(rows.repeat(samples, 1)).view(samples, len(rows), -1))

    def draws_in_a_loop(self, rows: Tensor, samples: int) -> Tensor:
        """The same in as many forwards as samples."""
        return self._finish(torch.stack([self.thinned(rows) for _ in range(samples)]))

    def _finish(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(-1) if self.classifies else outputs


def load(store: Path | None = None) -> dict[str, Network]:
    """Every model of a store, by name; the store is BENCH_STORE unless it is given."""
    root = store or Path(os.environ["BENCH_STORE"])
    return {folder.name: Network(folder / "1") for folder in sorted(root.iterdir()) if not folder.name.startswith(".")}


def answer(networks: dict[str, Network], request: Request, *, loop: bool = False) -> Request:
    """One request, alone: JSON in, JSON out."""
    return _listed(_alone(networks, request, loop=loop))


def answer_many(networks: dict[str, Network], requests: Sequence[Request]) -> list[Request]:
    """A batch: JSON in, JSON out."""
    return [_listed(found) for found in tensors_for_many(networks, requests)]


@torch.inference_mode()
def tensors_for_many(networks: dict[str, Network], requests: Sequence[Request]) -> list[dict[str, Tensor]]:
    """A batch: requests for the same model and samples share forwards, unless they bring seeds."""
    answers: list[dict[str, Tensor]] = [{}] * len(requests)
    groups: dict[tuple[str, int], list[int]] = {}
    for place, request in enumerate(requests):
        if request.get("seed") is not None:
            answers[place] = _alone(networks, request)
        else:
            groups.setdefault((request["model"], request.get("samples", 0)), []).append(place)
    for (model, samples), places in groups.items():
        rows = [_rows(requests[place]) for place in places]
        for part in _parts([len(each) for each in rows]):
            folded = _fold(networks[model], rows[part], samples)
            for place, found in zip(places[part], folded, strict=True):
                answers[place] = found
    return answers


@torch.inference_mode()
def _alone(networks: dict[str, Network], request: Request, *, loop: bool = False) -> dict[str, Tensor]:
    network, rows, samples = networks[request["model"]], _rows(request), request.get("samples", 0)
    if not samples:
        return {"mean": network.predict(rows)}
    if request.get("seed") is not None:
        torch.manual_seed(request["seed"])  # nn.Dropout takes no generator of its own
    draws = network.draws_in_a_loop(rows, samples) if loop else network.draws(rows, samples)
    return {"mean": draws.mean(0), "std": draws.std(0)}


def _fold(network: Network, inputs: Sequence[Tensor], samples: int) -> list[dict[str, Tensor]]:
    rows, lengths = torch.cat(list(inputs)), [len(each) for each in inputs]
    if not samples:
        return [{"mean": part} for part in network.predict(rows).split(lengths)]
    draws = network.draws(rows, samples)
    parts = zip(draws.mean(0).split(lengths), draws.std(0).split(lengths), strict=True)
    return [{"mean": mean, "std": std} for mean, std in parts]


def _parts(lengths: Sequence[int]) -> Iterator[slice]:
    """Which requests share a forward: as many in a row as have MOST_ROWS rows together, or one that has more."""
    start = rows = 0
    for place, length in enumerate(lengths):
        if rows and rows + length > MOST_ROWS:
            yield slice(start, place)
            start, rows = place, 0
        rows += length
    yield slice(start, len(lengths))


def _rows(request: Request) -> Tensor:
    return torch.as_tensor(request["inputs"], dtype=torch.float32)


def _listed(found: dict[str, Tensor]) -> Request:
    return {name: tensor.tolist() for name, tensor in found.items()}


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight, "bias": bias})
    return linear.requires_grad_(requires_grad=False)
