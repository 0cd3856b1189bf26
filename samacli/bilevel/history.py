"""What each example was given while training, and what it gave, summed over the run."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

_SUMS = ("visits", "weights", "targets", "looks", "values")


class ExampleHistory:
    """Running sums of each example's weight and target, and of its value.

    Kept where training is, so that no step waits for them. An example's value is Σ_t c_i/n over the
    meta steps t that met it, what the clean loss falls by, to first order and in nats, where it
    stands in those steps' batches of n at weight 1 (a first-order In-Run Data Shapley value, Wang
    et al. 2024).

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
        self.looks = torch.zeros(examples, dtype=torch.long, device=device)
        self.values = torch.zeros(examples, dtype=torch.float64, device=device)

    def add_values(self, index: Tensor, values: Tensor, *, good: Tensor | None = None) -> None:
        """Add a meta step's: row numbers (b,) and values (b,), NaN for rows that do not count.

        good: a bool (); where it is false, nothing is added.
        """
        use = values.isfinite() if good is None else values.isfinite() & good
        self.looks.index_add_(0, index, use.long())
        self.values.index_add_(0, index, torch.where(use, values.double(), 0.0))

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
        return {name: getattr(self, name) for name in _SUMS}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Go on from what `state_dict` gave."""
        for name, values in state.items():
            setattr(self, name, None if values is None else values.to(self.looks.device).clone())

    def sum_over(self, accelerator: Accelerator) -> None:
        """Add what the other processes gathered, so that all hold the whole; once, at the end."""
        if accelerator.num_processes == 1:
            return
        for name in _SUMS:
            if (own := getattr(self, name)) is not None:
                setattr(self, name, accelerator.reduce(own, reduction="sum"))

    def in_run_values(self) -> np.ndarray:
        """Each row's value (n,), nats; NaN for rows that no meta step met."""
        looks, values = self.looks.cpu().numpy(), self.values.cpu().numpy()
        return np.where(looks > 0, values, np.nan)

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
