"""Margin: examples between two classes, by the (almost) trained model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_mean import WindowMean

# A trained model's predictions, over its last visits (Coleman et al. 2020, section 2.1).
LATE = (0.9, 1.0)


class Margin(Running):
    """−(p₍₁₎ − p₍₂₎), the two largest probabilities, mean over late visits; small margins are kept.

    Scheffer, Decomain, Wrobel: "Active hidden Markov models for information extraction" (2001); as
    a score for choosing training subsets by a trained model: Coleman et al., "Selection via proxy"
    (ICLR 2020), and DeepCore (Guo et al. 2022). Takes no labels.

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
        first, second = seen.probabilities.topk(2, dim=-1).values.unbind(-1)
        self._mean.add(seen, second - first)

    def result(self) -> np.ndarray:
        return self._mean.result()
