"""By score, from either end."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Select(Protocol):
    """Scores (n,) and how many rows to keep → their row numbers (count,), in input order."""

    def __call__(self, scores: np.ndarray, count: int, /) -> np.ndarray: ...


def keep_highest(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of the highest scores (n,)."""
    return np.sort(np.argsort(-np.asarray(scores, dtype=float), kind="stable")[:count])


def keep_lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of the lowest scores (n,)."""
    # numpy sorts NaN last in both directions, as the negative of NaN is NaN.
    return np.sort(np.argsort(np.asarray(scores, dtype=float), kind="stable")[:count])
