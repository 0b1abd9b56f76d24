"""Answers with their draws, and what NumPy and SciPy make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from tests.api.live import Server
from tests.api.wire import ask, rows_of

Floats = NDArray[np.float64]
COMMON = ["model", "seed", "first_sample", "samples", "method"]
REGRESSION = ["mean", "std", "epistemic_std", "aleatoric_std", "stderr", "interval"]
CLASSIFICATION = [
    "labels",
    "probabilities",
    "std",
    "stderr",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "variation_ratio",
    "votes",
]


def same(found: ArrayLike, expected: ArrayLike, rtol: float = 1e-12) -> bool:
    """Equal shapes, and numbers equal but for rounding."""
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=rtol, atol=1e-15)


def entropy(probabilities: Floats) -> Floats:
    """−Σ p ln p over the last axis."""
    return -np.sum(probabilities * np.log(probabilities), axis=-1)


def sampled(
    server: Server, model: str, samples: int = 50, count: int = 3, **options: Any
) -> tuple[dict[str, Any], Floats]:
    """An answer for `count` rows, and its draws [samples, rows, outputs]."""
    rows = rows_of(server.client, model, count)
    answer = ask(
        server.client,
        f"/v1/models/{model}/sample",
        **{"inputs": rows, "seed": 11, "samples": samples, "return_draws": True, **options},
    )
    return answer, np.array(answer["draws"])


def members_variances(server: Server, model: str, samples: int) -> Floats:
    """Each sample's own aleatoric variance [samples, rows, outputs], asked for one by one."""
    return np.array([sampled(server, model, 1, first_sample=i)[0]["aleatoric_std"] for i in range(samples)]) ** 2


def mixture_quantile(probability: float, means: Floats, deviations: Floats) -> float:
    """The quantile of an equal-weight mixture of normals, by bisection of its distribution function."""
    low, high = (means + sign * 40 * deviations for sign in (-1, 1))

    def above(x: float) -> float:
        return float(norm.cdf(x, means, deviations).mean() - probability)

    return float(brentq(above, low.min(), high.max(), xtol=1e-11, rtol=1e-14))


def mixture_quantiles(probability: float, means: Floats, deviations: Floats) -> Floats:
    """The same for [samples, rows, outputs]: [rows, outputs]."""
    deviations = np.broadcast_to(deviations, means.shape)
    return np.array(
        [
            [mixture_quantile(probability, means[:, i, j], deviations[:, i, j]) for j in range(means.shape[2])]
            for i in range(means.shape[1])
        ]
    )


def labels_of(server: Server, model: str) -> list[str]:
    """The classes of a model, in order."""
    return [output["name"] for output in server.client.get(f"/v1/models/{model}").json()["outputs"]]
