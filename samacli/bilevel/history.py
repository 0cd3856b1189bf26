"""What each example was given while training, summed over the steps that count."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor


class ExampleHistory:
    """Running sums of each example's weight and target.

    Kept where training is, so that no step waits for them.

    Args:
        examples: number of rows n of the training split.
        classes: number of classes.
        targets: whether corrected targets are gathered too (n × classes floats).
    """

    def __init__(
        self,
        examples: int,
        classes: int,
        *,
        targets: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        self.visits = torch.zeros(examples, dtype=torch.long, device=device)
        self.weights = torch.zeros(examples, dtype=torch.float64, device=device)
        self.targets = torch.zeros(examples, classes, device=device) if targets else None

    def add(
        self, index: Tensor, weights: Tensor, targets: Tensor, *, good: Tensor | None = None
    ) -> None:
        """Add a batch: row numbers (b,), weights (b,), and class targets (b,) or (b, classes).

        good: a bool (); where it is false, nothing is added.
        """

        def kept(values: Tensor) -> Tensor:
            return values if good is None else torch.where(good, values, 0)

        self.visits.index_add_(0, index, kept(torch.ones_like(index)))
        self.weights.index_add_(0, index, kept(weights.double()))
        if self.targets is not None:
            self.targets.index_add_(0, index, kept(targets.float()))

    def state_dict(self) -> dict[str, Tensor | None]:
        """The sums, for a checkpoint."""
        return {"visits": self.visits, "weights": self.weights, "targets": self.targets}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Go on from what `state_dict` gave."""
        for name, values in state.items():
            setattr(self, name, None if values is None else values.to(self.visits.device).clone())

    def sum_over(self, accelerator: Accelerator) -> None:
        """Add what the other processes gathered, so that all hold the whole; once, at the end."""
        if accelerator.num_processes == 1:
            return
        self.visits = accelerator.reduce(self.visits, reduction="sum")
        self.weights = accelerator.reduce(self.weights, reduction="sum")
        if self.targets is not None:
            self.targets = accelerator.reduce(self.targets, reduction="sum")

    def mean_weights(self, otherwise: np.ndarray) -> np.ndarray:
        """Each row's mean weight (n,); rows never visited take theirs from `otherwise`."""
        visits, weights = self.visits.cpu().numpy(), self.weights.cpu().numpy()
        return np.where(visits > 0, weights / np.maximum(visits, 1), otherwise)

    def mean_targets(self, otherwise: np.ndarray) -> np.ndarray:
        """Each row's mean target (n, classes); rows never visited take theirs from `otherwise`."""
        if self.targets is None:
            raise ValueError("this history gathers no targets")
        visits = self.visits.cpu().numpy()[:, None]
        targets = self.targets.cpu().numpy()
        return np.where(visits > 0, targets / np.maximum(visits, 1), otherwise)
