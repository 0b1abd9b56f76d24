"""python -m benchmarks.committees: compares four ways of asking, and rewrites tables and plots of docs/ensembles.md.

Trains ensembles on several splits (kept in build/committees, so that a second run only evaluates), scores them on rows
held out and on images that they have never seen the like of. Needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.committees.plots import draw
from benchmarks.committees.scoring import SIGNALS, Found, Scores, score
from benchmarks.committees.ways import SAMPLES, WAYS
from benchmarks.report import table

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "ensembles.md"


def main() -> None:
    """Trains what is missing, evaluates, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.committees", description=__doc__)
    parser.add_argument("--splits", type=int, default=4, help="how many ways of dividing the rows to average over (4)")
    splits = parser.parse_args().splits
    torch.set_num_threads(1)
    found = score(splits)
    (DOCS / "images").mkdir(exist_ok=True)
    draw(found, DOCS / "images")
    page = PAGE.read_text()
    for name, text in _sections(found, splits).items():
        before, begin, rest = page.partition(f"<!-- {name} -->")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    PAGE.write_text(page)


def _sections(found: Found, splits: int) -> dict[str, str]:
    return {
        "digits": _by_way(found.digits, f"digits, {splits} splits"),
        "diabetes": _by_way(found.diabetes, f"diabetes, {splits} splits"),
        "out-of-distribution": _strangers(found.strangers),
    }


def _by_way(scores: Scores, corner: str) -> str:
    """A row for each way: mean ± standard error over splits."""
    return table(
        [corner, *scores],
        [[_described(way), *(_spread(of_ways[way]) for of_ways in scores.values())] for way in WAYS],
    )


def _described(way: str) -> str:
    return {"committee": f"committee, {SAMPLES} samples", "ensemble of committees": f"{way}, {SAMPLES} samples"}.get(
        way, way
    )


def _strangers(scores: Scores) -> str:
    """A row for each kind of image, a column for each way and signal: the area under the curve."""
    columns = [(way, signal) for way in WAYS for signal in SIGNALS if way != WAYS[0] or signal == SIGNALS[0]]
    kinds = list(dict.fromkeys(name.partition(": ")[0] for name in scores))
    short = dict(zip(SIGNALS, ("entropy", "MI"), strict=True))
    return table(
        ["AUROC", *(f"{way}: {short[signal]}" for way, signal in columns)],
        [[kind, *(f"{np.mean(scores[f'{kind}: {signal}'][way]):.3f}" for way, signal in columns)] for kind in kinds],
    )


def _spread(values: list[float]) -> str:
    """Mean ± standard error, with as many digits as that is worth."""
    mean, error = (
        float(np.mean(values)),
        float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0,
    )
    digits = max(0, 1 - int(np.floor(np.log10(error)))) if error > 0 else 3
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


if __name__ == "__main__":
    main()
