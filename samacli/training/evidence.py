"""What is known of each example at a training step: the features that its weight is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samacli.recipe.schema import Feature


@dataclass(frozen=True)
class Evidence:
    """Detached facts about n examples of c classes; nothing here carries a gradient.

    logits: (n, c) float32, the model's.
    labels: (n,) int64, the given ones.
    averaged_logits: (n, c) float32, the exponential-moving-average model's, where it is kept.
    """

    logits: Tensor
    labels: Tensor
    averaged_logits: Tensor | None = None

    @property
    def losses(self) -> Tensor:
        """Cross-entropy with the given label, in nats (n,)."""
        return torch.nn.functional.cross_entropy(self.logits, self.labels, reduction="none")

    @property
    def uncertainty(self) -> Tensor:
        """KL(averaged ‖ current) of the predicted distributions, in nats (n,)."""
        if self.averaged_logits is None:
            return torch.zeros_like(self.logits[:, 0])
        averaged, current = self.averaged_logits.log_softmax(-1), self.logits.log_softmax(-1)
        return (averaged.exp() * (averaged - current)).sum(-1).clamp_min(0)


def needs_averaged_model(features: Sequence[Feature]) -> bool:
    """Whether the features call for the exponential-moving-average model's predictions."""
    return "uncertainty" in features


def feature_count(features: Sequence[Feature], classes: int) -> int:
    """Columns that `feature_matrix` makes; the given label enters by its embedding instead."""
    return sum(classes if name == "prediction" else 1 for name in features if name != "label")


def feature_matrix(evidence: Evidence, features: Sequence[Feature]) -> Tensor:
    """The chosen features, each scaled to about the unit range: (n, feature_count)."""
    logits, labels = evidence.logits, evidence.labels
    log_classes = math.log(max(logits.shape[-1], 2))
    columns = []
    for name in features:
        if name == "label":
            continue
        elif name == "loss":
            columns.append(evidence.losses / log_classes)  # 1 is the loss of an even guess
        elif name == "uncertainty":
            columns.append(evidence.uncertainty.sqrt())  # a divergence grows as a distance squared
        elif name == "entropy":
            log_p = logits.log_softmax(-1)
            columns.append(-(log_p.exp() * log_p).sum(-1) / log_classes)
        elif name == "margin":
            p = logits.softmax(-1)
            given = p.gather(-1, labels[:, None])[:, 0]
            rival = p.scatter(-1, labels[:, None], -1.0).amax(-1)
            columns.append(given - rival)
        elif name == "prediction":
            columns.extend(logits.softmax(-1).unbind(-1))
    if not columns:
        return logits.new_zeros(len(logits), 0)
    return torch.stack(columns, dim=-1)
