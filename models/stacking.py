"""How much each member of an ensemble should count: weights that make validation targets likeliest.

Stacking of predictive distributions (Yao, Vehtari, Simpson & Gelman 2018). Knows nothing of networks.
"""

from __future__ import annotations

import numpy as np

from models.features import Float64

_STEPS, _ENOUGH = 10_000, 1e-10
_SMALLEST = 1e-300


def stacking_weights(densities: Float64) -> Float64:
    """The weights w [members], adding up to 1, that maximise Σ_rows ln Σ_m w_m p_m(y), from p [members, rows].

    By expectation maximisation: the problem is concave, and no step makes it worse (Dempster, Laird & Rubin 1977).
    """
    p = np.maximum(densities, _SMALLEST)
    weights = np.full(len(p), 1.0 / len(p))
    for _ in range(_STEPS):
        improved = weights * (p / (weights @ p)).mean(axis=1)
        if np.abs(improved - weights).max() < _ENOUGH:
            break
        weights = improved
    # Rounded, for more digits than that are noise; what is left goes to the heaviest, so that they add up to 1.
    rounded = np.round(weights, 4)
    rounded[weights.argmax()] += 1.0 - rounded.sum()
    return np.asarray(np.round(rounded, 4))
