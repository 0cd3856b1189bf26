"""By a score that is good enough; how many rows that keeps is what the data say."""

from __future__ import annotations

import numpy as np


def keep_above(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Rows that score (n,) `threshold` or higher."""
    return np.flatnonzero(np.asarray(scores) >= threshold)


def keep_below(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Rows that score (n,) `threshold` or lower."""
    return np.flatnonzero(np.asarray(scores) <= threshold)
