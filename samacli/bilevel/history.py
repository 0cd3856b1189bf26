"""What each example was given while training, summed over the steps that count."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor


class ExampleHistory:
    """Running sums of each example's weight and target.

    Args:
        examples: number of rows n of the training split.
        classes: number of classes.
        targets: whether corrected targets are gathered too (n × classes floats).
    """

    def __init__(self, examples: int, classes: int, *, targets: bool) -> None:
        self.visits = np.zeros(examples, dtype=np.int64)
        self.weights = np.zeros(examples, dtype=np.float64)
        self.targets = np.zeros((examples, classes), dtype=np.float32) if targets else None

    def add(self, index: Tensor, weights: Tensor, targets: Tensor) -> None:
        """Add a batch: row numbers (b,), weights (b,), and class targets (b,) or (b, classes)."""
        rows = index.cpu().numpy()
        np.add.at(self.visits, rows, 1)
        np.add.at(self.weights, rows, weights.double().cpu().numpy())
        if self.targets is not None:
            np.add.at(self.targets, rows, targets.float().cpu().numpy())

    def state_dict(self) -> dict[str, np.ndarray | None]:
        """The sums, for a checkpoint."""
        return {"visits": self.visits, "weights": self.weights, "targets": self.targets}

    def load_state_dict(self, state: dict[str, np.ndarray | None]) -> None:
        """Go on from what `state_dict` gave."""
        for name, values in state.items():
            setattr(self, name, None if values is None else values.copy())

    def sum_over(self, accelerator: Accelerator) -> None:
        """Add what the other processes gathered, so that all hold the whole; once, at the end."""
        if accelerator.num_processes == 1:
            return
        self.visits = _summed(self.visits, accelerator)
        self.weights = _summed(self.weights, accelerator)
        if self.targets is not None:
            self.targets = _summed(self.targets, accelerator)

    def mean_weights(self, otherwise: np.ndarray) -> np.ndarray:
        """Each row's mean weight (n,); rows never visited take theirs from `otherwise`."""
        return np.where(self.visits > 0, self.weights / np.maximum(self.visits, 1), otherwise)

    def mean_targets(self, otherwise: np.ndarray) -> np.ndarray:
        """Each row's mean target (n, classes); rows never visited take theirs from `otherwise`."""
        if self.targets is None:
            raise ValueError("this history gathers no targets")
        seen = (self.visits > 0)[:, None]
        return np.where(seen, self.targets / np.maximum(self.visits, 1)[:, None], otherwise)


def _summed(values: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    total = accelerator.reduce(torch.from_numpy(values).to(accelerator.device), reduction="sum")
    return total.cpu().numpy()
