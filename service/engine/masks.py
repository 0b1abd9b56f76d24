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
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from models.features import Float32

STREAM_VERSION = 1

_LANES_PER_BLOCK = 16
_WORDS_PER_BLOCK = 4
_LEVELS = 1 << 16
_WORD = (1 << 64) - 1


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


class Stream:
    """`random_lanes` for one thread, from one generator that is set to the place that is wanted.

    Making a generator costs as much as thousands of lanes; setting it, a tenth of that.
    """

    def __init__(self) -> None:
        self._generator = np.random.Philox(key=0)
        self._state: Any = self._generator.state
        self._key, self._counter = self._state["state"]["key"], self._state["state"]["counter"]

    def lanes(
        self, seed: int, first_sample: int, samples: int, step: int, widths: Sequence[int]
    ) -> npt.NDArray[np.uint16]:
        """What `random_lanes` gives, for a seed below 2⁶⁴; with a step, of every so many-th sample."""
        if step != 1:
            each = range(first_sample, first_sample + samples * step, step)
            return np.concatenate([self.lanes(seed, sample, 1, 1, widths) for sample in each])
        blocks = blocks_per_sample(widths)
        place = first_sample * blocks
        self._key[:] = seed, 0
        self._counter[:] = place & _WORD, place >> 64 & _WORD, 0, 0
        self._generator.state = self._state  # with the buffer marked as used up
        words = self._generator.random_raw(samples * blocks * _WORDS_PER_BLOCK)
        return words.astype("<u8", copy=False).view("<u2").reshape(samples, blocks * _LANES_PER_BLOCK)


def lane_thresholds(widths: Sequence[int], ps: Sequence[float]) -> npt.NDArray[np.uint16]:
    """What every lane of a sample is compared with; p = 1, whose threshold no lane can hold, gets the largest."""
    thresholds = np.zeros(blocks_per_sample(widths) * _LANES_PER_BLOCK, np.uint16)
    for start, width, p in zip(accumulate(widths, initial=0), widths, ps, strict=False):
        thresholds[start : start + width] = min(threshold(p), _LEVELS - 1)
    return thresholds


def draw_masks(
    seed: int, first_sample: int, samples: int, widths: Sequence[int], ps: Sequence[float]
) -> list[Float32 | None]:
    """The masks of a range of samples, one [samples, width] per site: 0, or the scale of a kept unit.

    None stands for a site with p = 0, which keeps all.
    """
    lanes = random_lanes(seed, first_sample, samples, widths)
    return [
        None
        if p == 0.0
        else np.where(lanes[:, start : start + width] >= threshold(p), np.float32(kept_scale(p)), np.float32(0))
        for start, width, p in zip(accumulate(widths, initial=0), widths, ps, strict=False)
    ]
