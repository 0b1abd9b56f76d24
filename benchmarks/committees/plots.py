"""Plots of the comparison, as SVG: the same numbers give the same file. Knows nothing of how they came about."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.committees.scoring import SIGNALS, Found, Scores
from benchmarks.committees.ways import WAYS
from models.scores import reliability

COLOURS = dict(zip(WAYS, ("#8a8f98", "#3b6fb6", "#c9762b", "#2d7d5a"), strict=True))
mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "penumbra",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#8a8f98",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "figure.facecolor": "white",
        "legend.frameon": False,
    }
)


def draw(found: Found, folder: Path) -> None:
    """Writes all plots into a folder."""
    _save(_scores(found.digits, "digits"), folder / "committees-digits.svg")
    _save(_scores(found.diabetes, "diabetes"), folder / "committees-diabetes.svg")
    _save(_calibration(found), folder / "committees-calibration.svg")
    _save(_strangers(found.strangers), folder / "committees-strangers.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def _scores(scores: Scores, title: str) -> Figure:
    """A panel for each score: its mean over splits for each way, with its standard error."""
    figure, panels = plt.subplots(1, len(scores), figsize=(9, 1.9), sharey=True, constrained_layout=True)
    for panel, (name, of_ways) in zip(panels, scores.items(), strict=True):
        for place, way in enumerate(reversed(WAYS)):
            values = np.array(of_ways[way])
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            panel.errorbar(values.mean(), place, xerr=error, fmt="o", ms=6, capsize=3, color=COLOURS[way])
        panel.set_title(name)
        panel.set_yticks(range(len(WAYS)), WAYS[::-1])
        panel.grid(axis="x", color="#e3e5e8", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.set_ylim(-0.6, len(WAYS) - 0.4)
        panel.margins(x=0.15)
        panel.tick_params(axis="y", length=0)
    panels[0].annotate(title, (0, 1.28), xycoords="axes fraction", fontsize=9, color="#5b6068")
    return figure


def _calibration(found: Found) -> Figure:
    """Accuracy by confidence: rows of all splits."""
    figure, panels = plt.subplots(1, len(WAYS), figsize=(9, 2.6), sharey=True, constrained_layout=True)
    truth = np.concatenate(found.truth)
    for panel, way in zip(panels, WAYS, strict=True):
        seen = reliability(truth, np.concatenate(found.said[way]), bins=10)
        some = seen.rows > 0
        panel.plot([0, 1], [0, 1], color="#c3c7cc", linewidth=1, linestyle=(0, (4, 3)))
        panel.plot(seen.confidence[some], seen.accuracy[some], color=COLOURS[way], linewidth=1.2)
        sizes = 8 + 60 * seen.rows[some] / seen.rows.max()
        panel.scatter(seen.confidence[some], seen.accuracy[some], sizes, color=COLOURS[way], zorder=3)
        panel.set(title=way, xlim=(0, 1.03), ylim=(0, 1.05), xlabel="confidence")
        panel.set_aspect("equal")
    panels[0].set_ylabel("accuracy")
    return figure


def _strangers(scores: Scores) -> Figure:
    """Area under the ROC curve, by kind of image: entropy filled, mutual information hollow."""
    kinds = list(dict.fromkeys(name.partition(": ")[0] for name in scores))
    figure, panel = plt.subplots(figsize=(9, 2.8), constrained_layout=True)
    for row, kind in enumerate(reversed(kinds)):
        panel.axhline(row, color="#e3e5e8", linewidth=0.8, zorder=0)
        for signal in SIGNALS:
            for place, way in enumerate(WAYS):
                if values := scores[f"{kind}: {signal}"].get(way):
                    hollow = signal == SIGNALS[1]
                    panel.plot(
                        np.mean(values),
                        row + 0.24 - 0.16 * place,
                        "D" if hollow else "o",
                        ms=6,
                        mfc="white" if hollow else COLOURS[way],
                        mec=COLOURS[way],
                    )
    panel.set_yticks(range(len(kinds)), kinds[::-1])
    panel.set(
        xlabel="AUROC: how well such images are told from digits (0.5: not at all, 1: always)",
        ylim=(-0.6, len(kinds) - 0.4),
    )
    panel.tick_params(axis="y", length=0)
    for way in WAYS:
        panel.plot([], [], "o", color=COLOURS[way], label=way)
    panel.plot([], [], "o", color="#5b6068", label=SIGNALS[0])
    panel.plot([], [], "D", mfc="white", mec="#5b6068", label=SIGNALS[1])
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
