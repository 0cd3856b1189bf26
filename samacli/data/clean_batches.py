"""Which clean rows the base level has, and which the meta level."""

from __future__ import annotations

import numpy as np


def halves(
    labels: np.ndarray, seed: int, *, at_most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sets of rows, ascending, that share each class evenly.

    labels: int (n,). Of a class with an odd number of rows the second set has one more, so that a
    class of one row is in the second. at_most: rows of a class in the second set; the first has
    the others.
    """
    generator = np.random.default_rng([seed, 0x5A11])
    first: list[np.ndarray] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        second = -(-members.size // 2)
        first.append(members[min(second, at_most or second) :])
    chosen = np.sort(np.concatenate(first)) if first else np.empty(0, np.int64)
    return chosen, np.setdiff1d(np.arange(labels.size), chosen)
