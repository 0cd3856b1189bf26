"""Least confidence: examples whose likeliest class is not very likely, by the trained model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from samacli.pruning.scores.margin import LATE
from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_mean import WindowMean


class LeastConfidence(Running):
    """1 − max_c p_c, the mean over late visits; the largest are kept.

    Lewis, Gale: "A sequential algorithm for training text classifiers" (1994); as a score for
    choosing training subsets: Coleman et al., "Selection via proxy" (ICLR 2020). Takes no labels.

    Args:
        window: (start, stop), the part of the run whose visits count; see `WindowMean`.
    """

    needs_features: ClassVar[bool] = False

    def __init__(
        self,
        examples: int,
        *,
        window: tuple[float, float] = LATE,
        device: torch.device | str = "cpu",
    ) -> None:
        self._mean = WindowMean(examples, window, device)

    def observe(self, seen: Observation) -> None:
        self._mean.add(seen, 1 - seen.probabilities.amax(-1))

    def result(self) -> np.ndarray:
        return self._mean.result()
