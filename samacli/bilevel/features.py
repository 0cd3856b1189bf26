"""What is known of each example at a training step, and the features made of it for its weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samacli.meta.label_corrector import entropy as entropy_of
from samacli.registry import FEATURES, load

_DECAY = 0.7


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


class LossHistory:
    """Each row's loss at earlier steps: a moving mean, and how much it swings.

    rows: n. device: where the tables (n,) lie. Both are 0 before a row's first visit.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.mean = torch.zeros(rows, device=device)
        self.swing = torch.zeros(rows, device=device)
        self.visited = torch.zeros(rows, dtype=torch.bool, device=device)

    def add(self, index: Tensor, losses: Tensor, *, good: Tensor | None = None) -> None:
        """A step's losses in nats (b,) of the rows `index` (b,).

        good: a bool (); where it is false, nothing is added.
        """
        losses = losses.detach().to(self.mean)
        known = self.visited[index]
        before = torch.where(known, self.mean[index], losses)
        swing = _DECAY * self.swing[index] + (1 - _DECAY) * (losses - before).abs()
        mean = _DECAY * before + (1 - _DECAY) * losses
        visited = torch.ones_like(known)
        if good is not None:
            swing = torch.where(good, swing, self.swing[index])
            mean = torch.where(good, mean, self.mean[index])
            visited = known | good
        self.swing[index], self.mean[index], self.visited[index] = swing, mean, visited

    def of(self, index: Tensor) -> Tensor:
        """Mean and swing in nats (b, 2)."""
        return torch.stack([self.mean[index], self.swing[index]], dim=-1)

    def state_dict(self) -> dict[str, Tensor]:
        """The tables, for a checkpoint."""
        return {"mean": self.mean, "swing": self.swing, "visited": self.visited}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        for name, table in state.items():
            getattr(self, name).copy_(table)


@dataclass
class Facts:
    """Tables with a line for each training row (n), on the training device; None: not kept.

    prior: log-probabilities (n, classes) of a belief fixed beforehand.
    votes: int64 (n, functions), the labelling functions' votes, −1 for none.
    representation: (n, f), the pretrained model's, each column of mean 0 and deviation 1.
    losses: of earlier steps.
    """

    prior: Tensor | None = None
    votes: Tensor | None = None
    representation: Tensor | None = None
    losses: LossHistory | None = None

    def evidence(
        self, index: Tensor, logits: Tensor, labels: Tensor, averaged_logits: Tensor | None
    ) -> Evidence:
        """Of the rows `index` (b,), with this step's detached logits and their given labels."""

        def of(table: Tensor | None) -> Tensor | None:
            return None if table is None else table[index]

        return Evidence(
            logits.detach(),
            labels,
            averaged_logits,
            prior=of(self.prior),
            votes=of(self.votes),
            representation=of(self.representation),
            earlier_losses=None if self.losses is None else self.losses.of(index),
        )

    @property
    def widths(self) -> dict[str, int]:
        """Columns of the features whose number depends on the data, by the feature's name."""
        return {
            "votes": 0 if self.votes is None else self.votes.shape[1],
            "representation": 0 if self.representation is None else self.representation.shape[1],
        }


# The features of `samacli.registry`: each (n,) or (n, columns), scaled to about the unit range.


def loss(evidence: Evidence) -> Tensor:
    """Its loss; 1 is that of an even guess."""
    return evidence.losses / _log_classes(evidence)


def label(evidence: Evidence) -> Tensor:
    """No columns: the given label enters the meta-weight-net by embedding."""
    return evidence.logits[:, :0]


def uncertainty(evidence: Evidence) -> Tensor:
    """Distance to the averaged model's prediction: a divergence grows as a distance squared."""
    return evidence.uncertainty.sqrt()


def entropy(evidence: Evidence) -> Tensor:
    """Of the prediction; 1 for an even one."""
    return entropy_of(evidence.logits.softmax(-1))


def margin(evidence: Evidence) -> Tensor:
    """P(given label) less that of the likeliest other class; 0 without a given label."""
    p = evidence.logits.softmax(-1)
    known = evidence.labels.clamp_min(0)[:, None]
    given = p.gather(-1, known)[:, 0]
    rival = p.scatter(-1, known, -1.0).amax(-1)
    return (given - rival) * (evidence.labels >= 0)


def prediction(evidence: Evidence) -> Tensor:
    """The predicted probabilities."""
    return evidence.logits.softmax(-1)


def history(evidence: Evidence) -> Tensor:
    """Mean and swing of its loss at earlier steps."""
    return _there(evidence.earlier_losses, "history") / _log_classes(evidence)


def votes(evidence: Evidence) -> Tensor:
    """1 where a labelling function agrees with the given label, −1 where not, 0 without a vote."""
    cast = _there(evidence.votes, "votes")
    agree = torch.where(cast == evidence.labels[:, None], 1.0, -1.0)
    return agree * (cast >= 0)


def representation(evidence: Evidence) -> Tensor:
    """The pretrained model's, at about unit length."""
    table = _there(evidence.representation, "representation")
    return table / math.sqrt(table.shape[-1])


def prior(evidence: Evidence) -> Tensor:
    """What the fixed belief says of the given label, and how far the model's is from it."""
    belief = _there(evidence.prior, "prior").exp()
    labels = evidence.labels
    given = belief.gather(-1, labels.clamp_min(0)[:, None])[:, 0] * (labels >= 0)
    overlap = (belief.sqrt() * (evidence.belief / 2).exp()).sum(-1)
    return torch.stack([given, (1 - overlap).clamp_min(0).sqrt()], dim=-1)


def _log_classes(evidence: Evidence) -> float:
    return math.log(max(evidence.logits.shape[-1], 2))


def _there(table: Tensor | None, name: str) -> Tensor:
    if table is None:
        raise ValueError(f"the feature {name!r} needs facts that were not gathered")
    return table


def needs_averaged_model(features: Sequence[str]) -> bool:
    """Whether the features call for the exponential-moving-average model's predictions."""
    return any(FEATURES[name].averaged for name in features)


def feature_count(features: Sequence[str], classes: int, widths: Mapping[str, int]) -> int:
    """Columns that `feature_matrix` makes; widths: of those that the data decide, by name."""
    by_data = {"prediction": classes, **widths}
    known = ((name, FEATURES[name].columns) for name in features)
    return sum(by_data[name] if columns is None else columns for name, columns in known)


def feature_matrix(evidence: Evidence, features: Sequence[str]) -> Tensor:
    """The chosen features side by side: (n, feature_count).

    Raises ValueError for an unknown feature, or one whose facts the evidence lacks.
    """
    unknown = [name for name in features if name not in FEATURES]
    if unknown:
        raise ValueError(f"no feature is called {unknown[0]!r}")
    columns = [load(FEATURES[name].where)(evidence) for name in features]
    columns = [column if column.dim() == 2 else column[:, None] for column in columns]
    return torch.cat([evidence.logits[:, :0], *columns], dim=-1)
