"""Any selection within each class, so that classes keep their proportions."""

from __future__ import annotations

import numpy as np

from samacli.pruning.selection.copies import copies_last
from samacli.pruning.selection.ranked import Select, keep_highest


def class_quotas(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many rows each class keeps, int64 (classes,): `count` in proportion to `sizes`.

    What rounding leaves over goes to the largest remainders, of equal ones to the earlier class.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    # In whole numbers: the shares of hundreds of millions of rows must not depend on rounding.
    whole, remainders = np.divmod(sizes * count, sizes.sum())
    whole[np.argsort(-remainders, kind="stable")[: count - whole.sum()]] += 1
    return whole


def keep_by_class(
    scores: np.ndarray,
    labels: np.ndarray,
    count: int,
    select: Select = keep_highest,
    *,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """`select` within each class of `labels` (n,), classes in the proportions that they have.

    Rows without a label (−1) count as one more class. Exactly `count` rows in input order.

    groups: of near-duplicates (n,), whose copies are the first to go in each class; see
    `copies_last`.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    kept: list[np.ndarray] = []
    for label, quota in zip(classes, class_quotas(sizes, count), strict=True):
        rows = np.flatnonzero(labels == label)
        if groups is None:
            kept.append(rows[select(scores[rows], int(quota))])
        else:
            kept.append(rows[copies_last(scores[rows], groups[rows], int(quota), select)])
    return np.sort(np.concatenate(kept))


def keep_highest_by_class(scores: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The highest scores (n,) within each class, see `keep_by_class`."""
    return keep_by_class(scores, labels, count, keep_highest)


def lost_classes(labels: np.ndarray, kept: np.ndarray) -> list[int]:
    """Class ids that occur in `labels` (n,) and not among the kept rows."""
    before = np.unique(labels[labels >= 0])
    return [int(label) for label in np.setdiff1d(before, labels[kept])]
