"""Images that no network of digits has seen the like of, as 8 × 8 pixels from 0 to 16. Knows nothing of networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_sample_images

from models.features import Float64

_SIZE, _INK = 8, 16.0


def strangers(digits: Float64) -> Iterator[tuple[str, Float64]]:
    """Kinds of images [rows, 64], as many of each as there are digits, most of them made from those."""
    random = np.random.Generator(np.random.PCG64(0))
    yield "inverted digits", _INK - digits
    yield "shuffled pixels", random.permuted(digits, axis=1)
    yield "uniform noise", random.uniform(0.0, _INK, digits.shape)
    yield "photographs", _photographs(len(digits), random)


def _photographs(count: int, random: np.random.Generator) -> Float64:
    """Pieces of the two photographs that scikit-learn ships, in grey, at one pixel in eight."""
    small = [image.mean(axis=2)[::8, ::8] * (_INK / 255.0) for image in load_sample_images().images]
    pieces = []
    for _ in range(count):
        image = small[random.integers(len(small))]
        row, column = (random.integers(size - _SIZE) for size in image.shape)
        pieces.append(image[row : row + _SIZE, column : column + _SIZE].ravel())
    return np.stack(pieces)
