"""A model of a table with texts, truth values and gaps, trained by the command that users have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tests.api.live import ROOT

ROWS = 120


def train_houses(folder: Path) -> None:
    """Writes houses.csv: rooms, heating, garden and age, and what the price is; and a store with what was learnt."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"{number:04}" for number in range(ROWS)],
            "rooms": random.integers(1, 8, ROWS),
            "heating": random.choice(["gas", "oil", "heat pump"], ROWS),
            "garden": random.choice(["true", "false"], ROWS),
            "age": random.integers(0, 90, ROWS).astype(float),
        }
    )
    frame["price"] = 100 + 20 * frame.rooms + 9 * (frame.heating == "gas") - 0.3 * frame.age
    for name, rows in {"age": [3, 50, 77], "heating": [5, 60], "garden": [7]}.items():
        frame.loc[rows, name] = np.nan
    frame.to_csv(folder / "houses.csv", index=False, na_rep="NA")
    command = [sys.executable, "-m", "models", "train", str(folder / "houses.csv"), "--target", "price", "--drop", "id"]
    command += ["--hidden", "16", "--store", str(folder / "store")]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
