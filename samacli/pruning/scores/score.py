"""What every score has in common: it looks on while a model trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """A training batch of b examples as the model sees it, detached, on the training device.

    index: (b,) row numbers of the training split. labels: (b,) given classes, −1 for none.
    logits: (b, classes) float32. features: (b, f) float32, what the last linear layer was given;
    None where no score asked for it. progress: the fraction of the run that is over, in [0, 1].
    """

    index: Tensor
    labels: Tensor
    logits: Tensor
    features: Tensor | None
    progress: float


class Score(Protocol):
    """Running statistics of each training example, updated a batch at a time.

    State is a few numbers an example, whatever the length of the run; rows may be visited in any
    order and any number of times, and rows that were never visited score NaN.
    """

    def observe(self, seen: Observation) -> None:
        """Take note of one batch of a training step."""

    def result(self) -> np.ndarray:
        """(n,) float64; examples of a higher score are kept first, as the score's paper advises."""
