"""What is known of each training row besides what the model makes of it at this step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samacli.bilevel.evidence import Evidence

_DECAY = 0.7


class LossHistory:
    """Each row's loss at earlier steps: a moving mean, and how much it swings.

    rows: n. device: where the tables (n,) lie. Both are 0 before a row's first visit.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.mean = torch.zeros(rows, device=device)
        self.swing = torch.zeros(rows, device=device)
        self.visited = torch.zeros(rows, dtype=torch.bool, device=device)

    def add(self, index: Tensor, losses: Tensor) -> None:
        """A step's losses in nats (b,) of the rows `index` (b,)."""
        losses = losses.detach().to(self.mean)
        known = self.visited[index]
        before = torch.where(known, self.mean[index], losses)
        self.swing[index] = _DECAY * self.swing[index] + (1 - _DECAY) * (losses - before).abs()
        self.mean[index] = _DECAY * before + (1 - _DECAY) * losses
        self.visited[index] = True

    def state(self) -> dict[str, Tensor]:
        """The tables, for a checkpoint."""
        return {"mean": self.mean, "swing": self.swing, "visited": self.visited}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        for name, table in state.items():
            getattr(self, name).copy_(table)

    def of(self, index: Tensor) -> Tensor:
        """Mean and swing in nats (b, 2)."""
        return torch.stack([self.mean[index], self.swing[index]], dim=-1)


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
