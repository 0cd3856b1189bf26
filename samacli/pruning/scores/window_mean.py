"""Each example's mean of something over a part of the run."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation


class WindowMean(Running):
    """The mean over a row's visits at start ≤ progress ≤ stop.

    A row without a visit in there (a short run, a short window) takes the visits nearest to it, so
    that every row that was visited at all has a value. Three float32 numbers an example.

    Args:
        examples: number of rows n of the training split.
        window: (start, stop), fractions of the run.
    """

    def __init__(
        self, examples: int, window: tuple[float, float], device: torch.device | str
    ) -> None:
        self._start, self._stop = window
        self._sum = torch.zeros(examples, device=device)
        self._visits = torch.zeros(examples, device=device)
        # how far from the window the visits are that are summed so far; 0: within
        self._away = torch.full((examples,), torch.inf, device=device)

    def add(self, seen: Observation, values: Tensor) -> None:
        """Add a value (b,) for each row of the batch; NaN stays with its row."""
        rows = seen.index
        before = self._away[rows]
        now = torch.full_like(
            before, max(0.0, self._start - seen.progress, seen.progress - self._stop)
        )
        nearer, counts = now < before, now <= before
        self._away[rows] = torch.minimum(now, before)
        for total, value in ((self._sum, values), (self._visits, torch.ones_like(values))):
            total[rows] = torch.where(nearer, 0.0, total[rows])
            total.index_add_(0, rows, torch.where(counts, value, 0.0))

    def result(self) -> np.ndarray:
        """(n,) float64; NaN for rows that were never visited."""
        return (self._sum / self._visits).double().cpu().numpy()
