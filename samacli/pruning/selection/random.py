"""By chance: what every other selection has to beat."""

from __future__ import annotations

import numpy as np


def keep_random(rows: int, count: int, seed: int) -> np.ndarray:
    """`count` of `rows` at random, in input order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])
