"""Disease progression one year after baseline, from ten measurements of 442 patients (Efron et al. 2004)."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

from models.architecture import Mlp, RegressionHead
from models.data import Dataset
from models.training import Hyperparameters, Recipe


def load() -> Dataset:
    """scikit-learn's table, its inputs centred and scaled as it ships them."""
    table = load_diabetes()
    return Dataset(
        source="scikit-learn load_diabetes",
        inputs=table.data.astype(np.float64),
        targets=table.target.astype(np.float64)[:, None],
        input_names=list(table.feature_names),
        output_names=["progression"],
        output_units=["score"],
    )


RECIPE = Recipe(
    name="diabetes",
    description="Disease progression one year on, from age, sex, body mass index, blood pressure and six serum values.",
    load=load,
    # How these were chosen: docs/decisions/0003-shipped-models.md
    architecture=Mlp(
        inputs=10,
        hidden=(128, 128),
        activation="silu",
        dropout=(0.2, 0.2),
        input_dropout=0.1,
        head=RegressionHead(outputs=1, variance=True),
    ),
    hyperparameters=Hyperparameters(learning_rate=1e-3, weight_decay=1.0, batch_size=32),
)
