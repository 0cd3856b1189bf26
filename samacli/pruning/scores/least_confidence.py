"""Least confidence: examples whose likeliest class is not very likely, by the trained model."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from samacli.pruning.scores import formulas
from samacli.pruning.scores.margin import LATE
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_score import WindowScore


class LeastConfidence(WindowScore):
    """1 − max_c p_c, the mean over late visits; the largest are kept.

    Lewis, Gale: "A sequential algorithm for training text classifiers" (1994); as a score for
    choosing training subsets: Coleman et al., "Selection via proxy" (ICLR 2020). Takes no labels.
    """

    window: ClassVar[tuple[float, float]] = LATE

    def value(self, seen: Observation) -> Tensor:
        return formulas.least_confidence(seen.probabilities)
