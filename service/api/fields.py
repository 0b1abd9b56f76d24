"""The names under which answers are told, by every codec. Knows nothing of bytes, and nothing of who asked."""

from __future__ import annotations

from itertools import compress
from typing import Any

from service.engine.uncertainty import ClassificationSummary, RegressionSummary
from service.jobs import Prediction, Sampled
from service.served import ServedModel


def of_prediction(model: ServedModel, answer: Prediction) -> dict[str, Any]:
    """What the full network says: arrays [rows, outputs], and labels [rows] of a classification."""
    if model.manifest.task == "classification":
        return {"labels": _labels(model, answer.mean.argmax(axis=1)), "probabilities": answer.mean}
    return {"mean": answer.mean, **({} if answer.aleatoric_std is None else {"aleatoric_std": answer.aleatoric_std})}


def of_sample(model: ServedModel, answer: Sampled) -> dict[str, Any]:
    """What a committee says: arrays [rows, outputs] or [rows], None where undefined, and draws where asked for."""
    summary = answer.summary
    fields = _of_regression(summary) if isinstance(summary, RegressionSummary) else _of_classification(model, summary)
    return fields if answer.draws is None else {**fields, "draws": answer.draws}


def _of_regression(summary: RegressionSummary) -> dict[str, Any]:
    interval = summary.interval
    quantiles = {repr(float(probability)): bound for probability, bound in summary.quantiles.items()}
    return {
        "mean": summary.mean,
        "std": summary.std,
        "epistemic_std": summary.epistemic_std,
        "aleatoric_std": summary.aleatoric_std,
        "stderr": summary.stderr,
        "interval": {
            "level": interval.level,
            "kind": interval.kind,
            "lower": interval.lower,
            "upper": interval.upper,
        },
        **({"quantiles": quantiles} if quantiles else {}),
    }


def _of_classification(model: ServedModel, summary: ClassificationSummary) -> dict[str, Any]:
    return {
        "labels": _labels(model, summary.winners),
        "probabilities": summary.probabilities,
        "std": summary.std,
        "stderr": summary.stderr,
        "predictive_entropy": summary.predictive_entropy,
        "expected_entropy": summary.expected_entropy,
        "mutual_information": summary.mutual_information,
        "variation_ratio": summary.variation_ratio,
        "votes": summary.votes,
        **({"prediction_set": _sets(model, summary)} if model.manifest.calibration.all_conformal else {}),
    }


def _sets(model: ServedModel, summary: ClassificationSummary) -> list[list[str]] | None:
    if summary.prediction_set is None:
        return None
    return [list(compress(model.manifest.labels, row)) for row in summary.prediction_set]


def _labels(model: ServedModel, winners: Any) -> list[str]:
    return [model.manifest.labels[winner] for winner in winners]
