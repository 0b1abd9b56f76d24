"""Ten handwritten digits, from 1,797 images of 8 × 8 pixels (Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from models.architecture import ClassificationHead, Mlp
from models.data import Dataset
from models.training import Hyperparameters, Recipe


def load() -> Dataset:
    """scikit-learn's images, pixels 0 … 16, row by row."""
    table = load_digits()
    return Dataset(
        source="scikit-learn load_digits",
        inputs=table.data.astype(np.float64),
        targets=table.target.astype(np.int64),
        input_names=[str(name) for name in table.feature_names],
        output_names=[str(name) for name in table.target_names],
    )


RECIPE = Recipe(
    name="digits",
    description="Which digit an image of 8 × 8 pixels shows; pixels run from 0 (paper) to 16 (ink), row by row.",
    load=load,
    architecture=Mlp(
        inputs=64, hidden=(256, 256), norm="batch", dropout=(0.3, 0.3), head=ClassificationHead(classes=10)
    ),
    hyperparameters=Hyperparameters(learning_rate=2e-3, weight_decay=0.01, batch_size=64, max_epochs=200),
)
