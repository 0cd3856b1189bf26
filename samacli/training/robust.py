"""Losses that resist wrong labels by themselves, without clean data. They keep state: one a run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samacli.training.objective import Batch, weighted_cross_entropy

# What one process has of a batch → what all of them have together.
Gather = Callable[[Tensor], Tensor]


class LossTruncation:
    """Small-loss selection: the highest losses of each batch count for nothing.

    What a network learns late is more often wrong (Arpit et al. 2017); training on the batch's
    small losses alone is the selection of co-teaching (Han et al. 2018) with one network, and the
    loss truncation of Kang and Hashimoto (2020) with the quantile taken in the batch. The mean is
    over the examples that are kept.

    Args:
        fraction: of a batch's labelled examples that is dropped, rounded down.
        warmup: batches before any is dropped.
    """

    def __init__(self, fraction: float, warmup: int) -> None:
        self.fraction = fraction
        self.warmup = warmup
        self.batches = 0

    def state_dict(self) -> dict[str, int]:
        """Batches seen, for a checkpoint."""
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from what `state_dict` gave."""
        self.batches = state["batches"]

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        self.batches += 1
        if self.batches <= self.warmup:
            return weighted_cross_entropy(logits, batch)
        labelled = batch["labels"] >= 0
        losses = torch.nn.functional.cross_entropy(
            logits[labelled], batch["labels"][labelled], reduction="none"
        )
        if not len(losses):
            return logits.sum() * 0.0
        keep = len(losses) - int(self.fraction * len(losses))
        return losses.topk(keep, largest=False).values.mean()


class EarlyLearning:
    """Early-Learning Regularization (ELR, Liu et al. 2020).

    L = mean_i [ CE(p_i, y_i) + λ log(1 − ⟨p_i, t_i⟩) ],  t_i ← β t_i + (1 − β) p_i

    with p_i the softmax of example i, clipped to [1e-4, 1 − 1e-4] as in the authors' code, and t_i,
    which starts at 0, updated with the detached and renormalised p_i before it is used. The log is
    lowest where p_i agrees with what the model said early on; its gradient makes up for that of
    the cross-entropy where the label is wrong.

    Args:
        rows: n of the training split; `batch["index"]` counts in it.
        classes: number of classes.
        strength: λ. momentum: β.
        device: where the targets (n, classes) float32 lie.
        gather: joins what several processes saw, so that all keep the same targets.
    """

    def __init__(
        self,
        rows: int,
        classes: int,
        *,
        strength: float = 3.0,
        momentum: float = 0.7,
        device: torch.device | str = "cpu",
        gather: Gather | None = None,
    ) -> None:
        self.strength = strength
        self.momentum = momentum
        self.targets = torch.zeros(rows, classes, device=device)
        self.gather = gather

    def state_dict(self) -> dict[str, Tensor]:
        """The targets, for a checkpoint."""
        return {"targets": self.targets}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self.targets.copy_(state["targets"])

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        probabilities = logits.softmax(-1).clamp(1e-4, 1 - 1e-4)
        index = batch["index"].to(self.targets.device)
        self._remember(index, probabilities.detach())
        targets = self.targets[index].to(probabilities)
        regularizer = (1 - (targets * probabilities).sum(-1)).log()
        labelled = batch["labels"] >= 0
        count = labelled.sum().clamp_min(1)
        return (
            weighted_cross_entropy(logits, batch)
            + self.strength * (regularizer * labelled).sum() / count
        )

    def _remember(self, index: Tensor, probabilities: Tensor) -> None:
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        if self.gather is not None:
            index, probabilities = self.gather(index), self.gather(probabilities)
        old = self.targets[index]
        new = self.momentum * old + (1 - self.momentum) * probabilities.to(self.targets)
        # A step whose loss is not finite is skipped, and must not spoil the later ones.
        self.targets[index] = torch.where(new.isfinite(), new, old)
