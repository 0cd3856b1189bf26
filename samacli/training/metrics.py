"""How good predictions are, by scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)


@dataclass(frozen=True)
class ClassScore:
    """One row of the per-class table."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and macro-F1 in [0, 1], and the same class by class."""

    accuracy: float
    macro_f1: float
    classes: list[ClassScore]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def evaluate(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> Evaluation:
    """Compare predicted with true class ids (n,).

    Macro-F1 is over the classes that occur in `labels` or are predicted, as scikit-learn has it.
    """
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=range(len(classes)), zero_division=0
    )
    return Evaluation(
        accuracy=float(accuracy_score(labels, predictions)),
        macro_f1=float(f1_score(labels, predictions, average="macro", zero_division=0)),
        classes=[
            ClassScore(name, float(p), float(r), float(f), int(n))
            for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
        ],
    )


def noise_detection(
    given: np.ndarray, true: np.ndarray, weights: np.ndarray
) -> dict[str, float] | None:
    """How well low weight finds wrong labels: average precision, AUROC, and the noise rate.

    Rows without a given label (−1) are left out. None where no label is wrong or all are.
    """
    measured = (given >= 0) & (true >= 0)
    wrong = (given != true)[measured]
    if not wrong.any() or wrong.all():
        return None
    suspicion = -weights[measured]
    return {
        "noise_rate": float(wrong.mean()),
        "average_precision": float(average_precision_score(wrong, suspicion)),
        "auroc": float(roc_auc_score(wrong, suspicion)),
    }
