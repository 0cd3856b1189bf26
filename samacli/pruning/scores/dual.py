"""DUAL: how hard an example is and how much its prediction wavers, early in training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from samacli.pruning.scores.formulas import where_labelled
from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation


class DUAL(Running):
    """The mean over windows of J visits in a row of std(P)·(1 − mean(P)), P = p(y | x).

    Cho, Shin, Yun: "Lightweight dataset pruning without full training via example difficulty and
    prediction uncertainty" (ICML 2025), section 3: over the first T epochs
        U_k = √(Σ_{j<J} (P_{k+j} − P̄_k)² / (J−1)),   score = Σ_k U_k (1 − P̄_k) / (T−J+1);
    the largest are kept. The paper takes T = 30 of 200 epochs and J = 10 (CIFAR). Its selection
    for low keep fractions (sampling from a Beta distribution) is not part of the score.

    J numbers and two more an example. Rows with fewer than J visits in all count those they have as
    one window; with a single visit they score NaN.

    Args:
        until: windows count that end by this fraction of the run, and each row's first.
        visits: J.
    """

    needs_features: ClassVar[bool] = False

    def __init__(
        self,
        examples: int,
        *,
        until: float = 0.15,
        visits: int = 10,
        device: torch.device | str = "cpu",
    ) -> None:
        self._until, self._length = until, visits
        self._last = torch.full((examples, visits), torch.nan, device=device)
        self._visits = torch.zeros(examples, dtype=torch.int64, device=device)
        self._sum = torch.zeros(examples, device=device)
        self._windows = torch.zeros(examples, device=device)

    def observe(self, seen: Observation) -> None:
        rows = seen.index
        given = seen.probabilities.gather(1, seen.labels.clamp_min(0)[:, None])[:, 0]
        self._last[rows, self._visits[rows] % self._length] = where_labelled(given, seen.labels)
        self._visits.index_add_(0, rows, torch.ones_like(rows))
        first = self._windows[rows] == 0
        counts = (self._visits[rows] >= self._length) & (first | (seen.progress <= self._until))
        product = _product(self._last[rows])
        self._sum.index_add_(0, rows, torch.where(counts, product, 0.0))
        self._windows.index_add_(0, rows, counts.to(self._windows.dtype))

    def result(self) -> np.ndarray:
        scores = (self._sum / self._windows).double()
        for visits in range(2, self._length):
            few = (self._visits == visits).nonzero()[:, 0]
            if len(few):
                scores[few] = _product(self._last[few, :visits]).double()
        return scores.cpu().numpy()


def _product(window: Tensor) -> Tensor:
    """std·(1 − mean) of each row of a window (b, J)."""
    return window.std(1) * (1 - window.mean(1))
