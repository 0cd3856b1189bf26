"""What every score has in common: it looks on while a model trains."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from samacli.training.observation import Observation

__all__ = ["Observation", "Score"]


class Score(Protocol):
    """Running statistics of each training example, updated a batch at a time.

    State is a few numbers an example on the training device, whatever the length of the run; rows
    may be visited in any order and any number of times. Rows that were never visited score NaN, and
    so do rows without a given label where the score takes one. Several processes are shown the same
    observations (`samacli.training.observation`), so that nothing is left to merge at the end.
    """

    @property
    def needs_features(self) -> bool:
        """Whether `observe` reads `Observation.features`."""

    def observe(self, seen: Observation) -> None:
        """Take note of one batch of a training step."""

    def result(self) -> np.ndarray:
        """(n,) float64; examples of a higher score are kept first, as the score's paper advises."""
