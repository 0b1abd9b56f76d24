"""Masks from seeds: a counter-based stream that anyone can recompute. Knows nothing of networks or HTTP.

The stream (version 1, frozen: changing it breaks every seed anyone has kept)

    A network has dropout sites of widths w₁ … w_L in order of evaluation. One sample consumes
    B = ⌈(w₁ + … + w_L) / 16⌉ blocks of Philox4x64-10, a block being four 64-bit words. Sample i of a seed is the B
    blocks that `numpy.random.Philox(key=seed, counter=i·B)` gives first. Read as little-endian 16-bit lanes, lane u
    belongs to unit u, the sites side by side. A unit is dropped iff its lane is below round(65536 p); for 0 < p < 1
    that threshold is at least 1 and at most 65535. Kept units are scaled by 1 / (1 − threshold / 65536).

What follows: any sample can be drawn alone; a p changes nothing but the threshold, so a unit dropped at p = 0.1 is
also dropped at 0.2, and a what-if compares committees that differ as little as they can. Philox's bits are covered
by NumPy's compatibility guarantee for bit generators (NEP 19). Salmon et al. 2011 describe the generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

STREAM_VERSION = 1
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly

_LANES_PER_BLOCK = 16
_WORDS_PER_BLOCK = 4
_LEVELS = 1 << 16


def threshold(p: float) -> int:
    """How many of the 65,536 lane values mean "dropped"."""
    if p in (0.0, 1.0):
        return int(p) * _LEVELS
    return min(max(round(p * _LEVELS), 1), _LEVELS - 1)


def kept_scale(p: float) -> float:
    """What kept units are multiplied by: 1 / (1 − p) for the p actually realised; 0 for p = 1, where none is kept."""
    dropped = threshold(p)
    return 0.0 if dropped == _LEVELS else 1.0 / (1.0 - dropped / _LEVELS)


def blocks_per_sample(widths: Sequence[int]) -> int:
    """Generator blocks that one sample consumes."""
    return -(-sum(widths) // _LANES_PER_BLOCK)


def random_lanes(seed: int, first_sample: int, samples: int, widths: Sequence[int]) -> npt.NDArray[np.uint16]:
    """The raw lanes of a range of samples: [samples, 16 · blocks per sample]."""
    blocks = blocks_per_sample(widths)
    generator = np.random.Philox(key=seed, counter=first_sample * blocks)
    words = generator.random_raw(samples * blocks * _WORDS_PER_BLOCK)
    return words.astype("<u8", copy=False).view("<u2").reshape(samples, blocks * _LANES_PER_BLOCK)


def draw_masks(
    seed: int, first_sample: int, samples: int, widths: Sequence[int], ps: Sequence[float], padding: int = 1
) -> list[npt.NDArray[np.float32] | None]:
    """The masks of a range of samples, one per site: [samples, width] float32, 0 or the scale of a kept unit.

    Widths are filled up with zeros to a multiple of `padding`. A site with p = 0 keeps all and gets no mask.
    """
    if not any(0.0 < p < 1.0 for p in ps):
        return [_constant_mask(samples, width, p, padding) for width, p in zip(widths, ps, strict=True)]
    lanes = random_lanes(seed, first_sample, samples, widths)
    masks: list[npt.NDArray[np.float32] | None] = []
    start = 0
    for width, p in zip(widths, ps, strict=True):
        mask = _constant_mask(samples, width, p, padding)
        if mask is not None and p < 1.0:
            kept = lanes[:, start : start + width] >= threshold(p)
            np.multiply(kept, np.float32(kept_scale(p)), out=mask[:, :width])
        masks.append(mask)
        start += width
    return masks


def _constant_mask(samples: int, width: int, p: float, padding: int) -> npt.NDArray[np.float32] | None:
    return None if p == 0.0 else np.zeros((samples, -(-width // padding) * padding), np.float32)
