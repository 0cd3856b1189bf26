"""From scores to the rows that are kept."""

from __future__ import annotations

import numpy as np

from samacli.errors import SamaError


def keep_count(keep: float, rows: int) -> int:
    """Rows to keep: a fraction (up to 1) of `rows`, rounded, or a count (above 1).

    Raises:
        SamaError: more than there are, or none.
    """
    count = round(keep * rows) if keep <= 1 else int(keep)
    if count > rows:
        raise SamaError(
            f"--keep {keep:g} asks for {count:,} rows, but the training split has {rows:,}; "
            "give a count up to that, or a fraction up to 1"
        )
    if count < 1:
        raise SamaError(f"--keep {keep:g} of {rows:,} rows leaves none; keep more")
    return count


def keep_highest(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of the highest scores (n,), in input order; ties go to the earlier row."""
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def keep_highest_by_class(scores: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The highest scores (n,) within each class, classes in the proportions of `labels` (n,).

    Exactly `count` rows in input order; what rounding leaves over goes to the largest remainders.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / len(labels)
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: count - quotas.sum()]] += 1
    kept = [
        rows[keep_highest(scores[rows], quota)]
        for rows, quota in zip((np.flatnonzero(labels == c) for c in classes), quotas, strict=True)
    ]
    return np.sort(np.concatenate(kept))


def keep_random(rows: int, count: int, seed: int) -> np.ndarray:
    """`count` of `rows` at random, in input order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def lost_classes(labels: np.ndarray, kept: np.ndarray) -> list[int]:
    """Class ids that occur in `labels` (n,) and not among the kept rows."""
    before = np.unique(labels[labels >= 0])
    return [int(label) for label in np.setdiff1d(before, labels[kept])]
