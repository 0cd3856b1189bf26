"""Labels some of which are made wrong."""

from __future__ import annotations

import numpy as np


def mislabelled(true: np.ndarray, rate: float, classes: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    given = true.copy()
    hit = generator.random(len(true)) < rate
    given[hit] = (true[hit] + generator.integers(1, classes, hit.sum())) % classes
    return given
