"""Forgetting events: how often an example that was right came out wrong at its next visit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation


class Forgetting(Running):
    """The number of visits at which a row is wrong and was right at the visit before.

    Toneva et al.: "An empirical study of example forgetting during deep neural network learning"
    (ICLR 2019), section 3; those forgotten most often are kept. Rows that were never right count as
    forgotten more often than all others: as in the authors' code, once a presentation (of the row
    that was presented most).
    """

    needs_features: ClassVar[bool] = False

    def __init__(self, examples: int, *, device: torch.device | str = "cpu") -> None:
        self._visits = torch.zeros(examples, dtype=torch.int32, device=device)
        self._events = torch.zeros(examples, dtype=torch.int32, device=device)
        self._right = torch.zeros(examples, dtype=torch.bool, device=device)
        self._ever_right = torch.zeros(examples, dtype=torch.bool, device=device)

    def observe(self, seen: Observation) -> None:
        rows = seen.index
        right = seen.logits.argmax(-1) == seen.labels
        self._events.index_add_(0, rows, (self._right[rows] & ~right).int())
        self._visits.index_add_(0, rows, (seen.labels >= 0).int())
        self._right[rows] = right
        self._ever_right[rows] |= right

    def result(self) -> np.ndarray:
        counts = torch.where(self._ever_right, self._events, self._visits.max())
        return torch.where(self._visits > 0, counts.double(), torch.nan).cpu().numpy()
