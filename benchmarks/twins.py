"""python -m benchmarks.twins: `mnist-ff` beside an MLP of as many parameters, trained on the same images alike.

Everything but the architecture is the shipped recipe's: images, split, distortions, hyperparameters, seed. Takes
minutes of one core; writes its section of benchmarks/RESULTS.md.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.report import figure, table, write_section
from benchmarks.timing import machine
from models.architecture import ClassificationHead, Mlp
from models.description import describe_architecture
from models.manifest import Manifest
from models.recipes.mnist_ff import RECIPE, SIDE
from models.repository import Repository
from models.training import train
from service.settings import SHIPPED_STORE

# 784 → 100 → 100 → 10 has 89,610 parameters, within a hundredth of the stack's.
TWIN = Mlp(inputs=SIDE * SIDE, hidden=(100, 100), dropout=0.1, head=ClassificationHead(classes=10))
_ABOUT = """\
The shipped feed-forward stack, and an MLP of as many parameters trained by the same recipe: the same images, split,
distortions, hyperparameters and seed. Figures are of test rows; the committee has 200 samples."""
_HEADER = ["", "parameters", "accuracy", "full network's", "log-likelihood", "full network's", "Brier score"]
_FIGURES = ("accuracy", "accuracy_full_network", "log_likelihood", "log_likelihood_full_network", "brier")


def main() -> None:
    """Trains the twin and writes both lines."""
    shipped = Repository(SHIPPED_STORE).load("mnist-ff").manifest
    twin = train(replace(RECIPE, name="mnist-mlp", architecture=TWIN), "1").manifest
    rows = [_line("`mnist-ff`", shipped), _line("its `mlp` twin", twin)]
    write_section("twins", f"## A stack and its twin\n\n{machine()}\n\n{_ABOUT}\n\n{table(_HEADER, rows)}")


def _line(name: str, manifest: Manifest) -> list[str]:
    test = manifest.metrics["test"]
    return [
        name,
        f"{describe_architecture(manifest.architecture).parameters:,}",
        *(figure(float(test[each])) for each in _FIGURES),
    ]


if __name__ == "__main__":
    main()
