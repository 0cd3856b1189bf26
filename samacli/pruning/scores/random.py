"""Random pruning: the baseline that every score has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from samacli.pruning.scores.score import Observation


class Random:
    """A random order of all n rows, visited or not.

    The highest c are the rows of `keep_random(n, c, seed)`, so smaller subsets lie within larger.
    """

    needs_features: ClassVar[bool] = False

    def __init__(self, examples: int, *, seed: int) -> None:
        self._examples, self._seed = examples, seed

    def observe(self, seen: Observation) -> None:
        """Nothing depends on the run."""

    def result(self) -> np.ndarray:
        """(n,) float64 in (0, 1], no two alike."""
        order = np.random.default_rng(self._seed).permutation(self._examples)
        scores = np.empty(self._examples)
        scores[order] = 1 - np.arange(self._examples) / self._examples
        return scores
