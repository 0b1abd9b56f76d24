"""Malignant or benign, from thirty measurements of cell nuclei in 569 images (Wolberg, Street & Mangasarian 1995)."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

from models.architecture import ClassificationHead, Mlp
from models.data import Dataset
from models.training import Hyperparameters, Recipe


def load() -> Dataset:
    """scikit-learn's table."""
    table = load_breast_cancer()
    return Dataset(
        source="scikit-learn load_breast_cancer",
        inputs=table.data.astype(np.float64),
        targets=table.target.astype(np.int64),
        input_names=[str(name) for name in table.feature_names],
        output_names=[str(name) for name in table.target_names],
    )


RECIPE = Recipe(
    name="breast-cancer",
    description="Whether a breast mass is malignant or benign, from measurements of its cell nuclei.",
    load=load,
    architecture=Mlp(inputs=30, hidden=(64, 64), dropout=(0.3, 0.3), head=ClassificationHead(classes=2)),
    hyperparameters=Hyperparameters(learning_rate=1e-3, weight_decay=0.01, batch_size=32),
)
