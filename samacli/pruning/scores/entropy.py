"""Entropy: examples that the (almost) trained model is undecided about."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from samacli.pruning.scores import formulas
from samacli.pruning.scores.margin import LATE
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_score import WindowScore


class Entropy(WindowScore):
    """−Σ_c p_c log p_c in nats, the mean over late visits; the largest are kept.

    Shannon's entropy of the prediction as in uncertainty sampling (Settles 2009, section 3.1); as a
    score for choosing training subsets: Coleman et al., "Selection via proxy" (ICLR 2020). Takes no
    labels.
    """

    window: ClassVar[tuple[float, float]] = LATE

    def value(self, seen: Observation) -> Tensor:
        return formulas.entropy(seen.probabilities)
