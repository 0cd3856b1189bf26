"""What is known of each example at a training step: the features that its weight is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samacli.meta.label_corrector import entropy
from samacli.recipe.schema import Feature


@dataclass(frozen=True)
class Evidence:
    """Detached facts about n examples of c classes; nothing here carries a gradient.

    logits: (n, c) float32, the model's.
    labels: (n,) int64, the given ones, −1 for none.
    averaged_logits: (n, c) float32, the exponential-moving-average model's, where it is kept.
    prior: (n, c) float32, log-probabilities of a belief fixed beforehand, where there is one.
    votes: (n, functions) int64, labelling functions' votes, −1 for none, where there are any.
    representation: (n, f) float32, standardised, of the pretrained model, where it is kept.
    earlier_losses: (n, 2) float32, moving mean and swing of the loss at earlier steps, in nats.
    """

    logits: Tensor
    labels: Tensor
    averaged_logits: Tensor | None = None
    prior: Tensor | None = None
    votes: Tensor | None = None
    representation: Tensor | None = None
    earlier_losses: Tensor | None = None

    def of(self, rows: Tensor) -> Evidence:
        """The same of some rows, by number (m,)."""
        parts: dict[str, Any] = {k: None if v is None else v[rows] for k, v in vars(self).items()}
        return Evidence(**parts)

    @property
    def losses(self) -> Tensor:
        """Cross-entropy with the given label, in nats (n,); 0 without one."""
        return torch.nn.functional.cross_entropy(
            self.logits, self.labels, reduction="none", ignore_index=-1
        )

    @property
    def belief(self) -> Tensor:
        """Log-probabilities (n, c) of the averaged model; of the model where none is kept."""
        logits = self.logits if self.averaged_logits is None else self.averaged_logits
        return logits.log_softmax(-1)

    @property
    def uncertainty(self) -> Tensor:
        """KL(averaged ‖ current) of the predicted distributions, in nats (n,)."""
        if self.averaged_logits is None:
            return torch.zeros_like(self.logits[:, 0])
        averaged, current = self.averaged_logits.log_softmax(-1), self.logits.log_softmax(-1)
        return (averaged.exp() * (averaged - current)).sum(-1).clamp_min(0)


def needs_averaged_model(features: Sequence[Feature]) -> bool:
    """Whether the features call for the exponential-moving-average model's predictions."""
    return "uncertainty" in features or "prior" in features


# Features of several columns or none; the others have one. The given label enters by embedding.
_SEVERAL = {"history": 2, "prior": 2, "label": 0}


def feature_count(features: Sequence[Feature], classes: int, widths: Mapping[str, int]) -> int:
    """Columns that `feature_matrix` makes; widths: of those that the data decide, by name."""
    known = {**_SEVERAL, "prediction": classes, **widths}
    return sum(known.get(name, 1) for name in features)


def feature_matrix(evidence: Evidence, features: Sequence[Feature]) -> Tensor:
    """The chosen features, each scaled to about the unit range: (n, feature_count).

    Raises ValueError for a feature whose facts the evidence lacks.
    """
    columns = [
        column if column.dim() == 2 else column[:, None]
        for column in (_feature(evidence, name) for name in features if name != "label")
    ]
    if not columns:
        return evidence.logits.new_zeros(len(evidence.logits), 0)
    return torch.cat(columns, dim=-1)


def _feature(evidence: Evidence, name: Feature) -> Tensor:
    """One feature, (n,) or (n, columns)."""
    logits, labels = evidence.logits, evidence.labels
    log_classes = math.log(max(logits.shape[-1], 2))
    if name == "loss":
        return evidence.losses / log_classes  # 1 is the loss of an even guess
    if name == "uncertainty":
        return evidence.uncertainty.sqrt()  # a divergence grows as a distance squared
    if name == "entropy":
        return entropy(logits.softmax(-1))
    if name == "margin":
        p = logits.softmax(-1)
        known = labels.clamp_min(0)[:, None]
        given = p.gather(-1, known)[:, 0]
        rival = p.scatter(-1, known, -1.0).amax(-1)
        return (given - rival) * (labels >= 0)
    if name == "prediction":
        return logits.softmax(-1)
    if name == "history":
        return _there(evidence.earlier_losses, name) / log_classes
    if name == "votes":
        votes = _there(evidence.votes, name)
        agree = torch.where(votes == labels[:, None], 1.0, -1.0)  # with the given label
        return agree * (votes >= 0)
    if name == "representation":
        table = _there(evidence.representation, name)
        return table / math.sqrt(table.shape[-1])
    if name == "prior":
        # What the fixed belief says of the given label, and how far the model's is from it.
        prior = _there(evidence.prior, name).exp()
        given = prior.gather(-1, labels.clamp_min(0)[:, None])[:, 0] * (labels >= 0)
        overlap = (prior.sqrt() * (evidence.belief / 2).exp()).sum(-1)
        return torch.stack([given, (1 - overlap).clamp_min(0).sqrt()], dim=-1)
    raise ValueError(f"no feature is called {name!r}")


def _there(table: Tensor | None, name: str) -> Tensor:
    if table is None:
        raise ValueError(f"the feature {name!r} needs facts that were not gathered")
    return table
