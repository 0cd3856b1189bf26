"""Base losses: what the model is asked to minimise at a training step."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

Batch = dict[str, Any]

# Columns of a batch that are not inputs of the model.
NOT_INPUTS = frozenset({"labels", "index", "sample_weight", "averaged_logits", "clean"})


class Objective(Protocol):
    """A scalar loss from the model's logits (n, classes) and the batch."""

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor: ...


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


def model_inputs(batch: Batch) -> Batch:
    """What of a batch the model takes."""
    return {name: value for name, value in batch.items() if name not in NOT_INPUTS}


def model_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (n, classes) in float32."""
    return model(**model_inputs(batch)).logits.float()


def weighted_cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy with the given labels, each times its `sample_weight` where there is one.

    Examples without a given label (−1) count for nothing.
    """
    losses = torch.nn.functional.cross_entropy(
        logits, batch["labels"], reduction="none", ignore_index=-1
    )
    if "sample_weight" in batch:
        losses = losses * batch["sample_weight"]
    labelled = (batch["labels"] >= 0).sum().clamp_min(1)
    return losses.sum() / labelled


def forward_corrected(logits: Tensor, log_likelihood: Tensor) -> Tensor:
    """−log Σ_c p(c)·P(given | c) of each example, in nats (n,).

    The model is asked for the true class, and what labels do with it is put between (forward
    correction, Patrini et al. 2017). logits: (n, classes). log_likelihood: log P(given | true) of
    each example's given label, (n, classes).
    """
    return -torch.logsumexp(logits.log_softmax(-1) + log_likelihood, dim=-1)


class ForwardCorrection:
    """The mean of `forward_corrected` over examples with a given label.

    log_likelihood: log P(given | true), (given, true).
    """

    def __init__(self, log_likelihood: Tensor) -> None:
        self.log_likelihood = log_likelihood

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        told = batch["labels"] >= 0
        rows = self.log_likelihood.to(logits)[batch["labels"].clamp_min(0)]
        losses = forward_corrected(logits, rows)
        return (losses * told).sum() / told.sum().clamp_min(1)


class CleanBeside:
    """(1 − s)·ℓ(a batch) + s·cross-entropy of the clean rows beside it: a share as sama gives it.

    share: s, of clean rows. others: ℓ, the loss of the batch itself.
    """

    def __init__(self, share: float, others: Objective) -> None:
        self.share, self.others = share, others

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        return (1 - self.share) * self.others(logits, batch)

    def clean_part(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the clean rows add."""
        return self.share * clean_loss(model, batch)


def clean_loss(model: nn.Module, batch: Batch, offset: Tensor | float = 0.0) -> Tensor:
    """The meta loss: cross-entropy on clean examples.

    offset: (classes,), log of how frequent each class is among clean rows over how frequent it is
    where the model is to work; added to the logits, so that the model learns the latter from
    examples drawn by the former (logit adjustment, Menon et al. 2021).
    """
    return weighted_cross_entropy(model_logits(model, batch) + offset, batch)
