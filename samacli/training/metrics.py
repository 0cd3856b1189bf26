"""How good predictions are, by scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from samacli.training.reliability import reliability


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
    """Accuracy and macro-F1 in [0, 1], and the same class by class.

    right: bool (n,), which rows were predicted rightly; not in `as_dict`.
    """

    accuracy: float
    macro_f1: float
    classes: list[ClassScore]
    right: np.ndarray | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name != "right"}


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
        right=labels == predictions,
    )


def noise_detection(
    given: np.ndarray,
    true: np.ndarray,
    weights: np.ndarray,
    probability: np.ndarray | None = None,
) -> dict[str, float] | None:
    """How well low weight finds wrong labels: average precision, AUROC, and the noise rate.

    Rows without a given label (−1) are left out. None where no label is wrong or all are.

    probability: that each label is wrong (n,): then also its expected calibration error, `ece`,
        where rows are enough.
    """
    measured = (given >= 0) & (true >= 0)
    wrong = (given != true)[measured]
    if not wrong.any() or wrong.all():
        return None
    suspicion = -weights[measured]
    found = {
        "noise_rate": float(wrong.mean()),
        "average_precision": float(average_precision_score(wrong, suspicion)),
        "auroc": float(roc_auc_score(wrong, suspicion)),
    }
    if probability is not None:
        reliable = reliability(probability[measured], wrong)
        found |= {} if reliable is None else {"ece": reliable.ece}
    return found
