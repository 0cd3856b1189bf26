"""Margin: examples between two classes, by the (almost) trained model."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from samacli.pruning.scores import formulas
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_score import WindowScore

# A trained model's predictions, over its last visits (Coleman et al. 2020, section 2.1).
LATE = (0.9, 1.0)


class Margin(WindowScore):
    """−(p₍₁₎ − p₍₂₎), the two largest probabilities, mean over late visits; small margins are kept.

    Scheffer, Decomain, Wrobel: "Active hidden Markov models for information extraction" (2001); as
    a score for choosing training subsets by a trained model: Coleman et al., "Selection via proxy"
    (ICLR 2020), and DeepCore (Guo et al. 2022). Takes no labels.
    """

    window: ClassVar[tuple[float, float]] = LATE

    def value(self, seen: Observation) -> Tensor:
        return formulas.margin(seen.probabilities)
