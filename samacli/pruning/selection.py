"""From scores to the rows that are kept.

A selection is a function of scores (n,) and of how many rows to keep,

    select(scores, count, …) -> int64 (count,), row numbers in input order,

and the selections that need more (labels, groups of near-duplicates) take another selection to
apply within. Ties go to the earlier row. A row without a score (NaN: training never visited it)
ranks after all rows that have one: it is only taken when those run out.

`samacli.pruning.large` does the same for score files that do not fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from samacli.errors import SamaError, counted

STRATA = 50  # the CCS paper's
FEW_OF_CLASS = 5  # rows: a class with fewer has nearly vanished


class Select(Protocol):
    """Scores (n,) and how many rows to keep → their row numbers (count,), in input order."""

    def __call__(self, scores: np.ndarray, count: int, /) -> np.ndarray: ...


def keep_highest(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of the highest scores (n,)."""
    return np.sort(np.argsort(-np.asarray(scores, dtype=float), kind="stable")[:count])


def keep_count(keep: float, rows: int, *, of: str = "the training split has") -> int:
    """Rows to keep: a fraction (up to 1) of `rows`, rounded, or a count (above 1).

    of: whose rows they are, for the message.

    Raises:
        SamaError: more than there are, or none.
    """
    count = round(keep * rows) if keep <= 1 else int(keep)
    if count > rows:
        raise SamaError(
            f"--keep {keep:g} asks for {counted(count, 'row')}, but {of} {rows:,}; "
            "give a count up to that, or a fraction up to 1"
        )
    if count < 1:
        raise SamaError(f"--keep {keep:g} of {counted(rows, 'row')} leaves none; keep more")
    return count


def keep_counts(keeps: Sequence[float], rows: int) -> dict[str, int]:
    """Rows to keep of a training split, by the keep's text ("0.7")."""
    return {f"{keep:g}": keep_count(keep, rows) for keep in keeps}


def class_quotas(sizes: np.ndarray, count: int, *, unlabelled: bool = False) -> np.ndarray:
    """How many rows each class keeps, int64 (classes,): `count` in proportion to `sizes`.

    What rounding leaves over goes to the largest remainders, of equal ones to the earlier class.
    No class vanishes as long as there are as many rows to keep as classes: one that rounding leaves
    nothing takes a row of the class that keeps the most. unlabelled: the first of them is no class,
    but the rows without a label, which may vanish.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    # In whole numbers: the shares of hundreds of millions of rows must not depend on rounding.
    whole, remainders = np.divmod(sizes * count, sizes.sum())
    whole[np.argsort(-remainders, kind="stable")[: count - whole.sum()]] += 1
    lost_ones = np.flatnonzero((whole == 0) & (sizes > 0))
    for lost in lost_ones[lost_ones >= int(unlabelled)]:
        richest = int(whole.argmax())
        if whole[richest] > 1:
            whole[richest] -= 1
            whole[lost] = 1
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
    quotas = class_quotas(sizes, count, unlabelled=bool(classes[0] < 0))
    for label, quota in zip(classes, quotas.tolist(), strict=True):
        rows = np.flatnonzero(labels == label)
        if groups is None:
            kept.append(rows[select(scores[rows], quota)])
        else:
            kept.append(rows[copies_last(scores[rows], groups[rows], quota, select)])
    return np.sort(np.concatenate(kept))


def lost_classes(labels: np.ndarray, kept: np.ndarray) -> list[int]:
    """Class ids that occur in `labels` (n,) and not among the kept rows."""
    before = np.unique(labels[labels >= 0])
    return [int(label) for label in np.setdiff1d(before, labels[kept])]


def nearly_lost_classes(labels: np.ndarray, kept: np.ndarray) -> list[int]:
    """Class ids with `FEW_OF_CLASS` rows or more in `labels` (n,), and fewer, but some, kept."""
    classes = int(labels.max(initial=-1)) + 1
    before, after = (
        np.bincount(some[some >= 0], minlength=classes) for some in (labels, labels[kept])
    )
    return np.flatnonzero((before >= FEW_OF_CLASS) & (after > 0) & (after < FEW_OF_CLASS)).tolist()


def copies_last(
    scores: np.ndarray, groups: np.ndarray, count: int, select: Select = keep_highest
) -> np.ndarray:
    """`select` among one row a group first, and among the others when these are too few.

    groups: (n,), of `near_duplicate_groups`. The row that stands for a group is the one that
    `select` would keep if it kept one row of it. Exactly `count` rows in input order.
    """
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order][:1] - 1))
    groups_of_rows = np.split(order, starts[1:])
    chosen = [rows if len(rows) == 1 else rows[select(scores[rows], 1)] for rows in groups_of_rows]
    firsts = np.sort(np.concatenate(chosen))
    if count <= len(firsts):
        return firsts[select(scores[firsts], count)]
    copies = np.setdiff1d(np.arange(len(scores)), firsts, assume_unique=True)
    more = copies[select(scores[copies], count - len(firsts))]
    return np.sort(np.concatenate([firsts, more]))


def stratum_budgets(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many rows each stratum gives, int64 (strata,), at most its size; their sum is `count`.

    From the smallest stratum up, each gives min(its size, ⌊what is left / strata left⌋), so that
    what small strata lack is shared by the larger. Of equal sizes the earlier comes first. If all
    strata together are smaller than `count`, each gives all it has.
    """
    budgets = np.zeros(len(sizes), dtype=np.int64)
    left = count
    order = np.argsort(sizes, kind="stable")
    for place, stratum in enumerate(order):
        budgets[stratum] = min(int(sizes[stratum]), left // (len(order) - place))
        left -= int(budgets[stratum])
    return budgets


def keep_covering(
    scores: np.ndarray,
    count: int,
    *,
    seed: int,
    beta: float = 0.1,
    hardest: Literal["lowest", "highest"] = "lowest",
    strata: int = STRATA,
) -> np.ndarray:
    """`count` rows at random from strata of equal width over the range of the scores (n,): CCS.

    Every level of difficulty is represented, but the hardest. Zheng, Liu, Lai, Prakash:
    "Coverage-centric coreset selection for high pruning rates" (ICLR 2023), algorithm 1.

    beta: the share of all rows, the hardest ones, that is dropped first; the paper searches it for
    each rate. Where so many are kept that fewer can be dropped, fewer are. hardest: at which end of
    the scores these stand; the paper's score is AUM, whose lowest are the hardest.

    Rows without a score (NaN) lie in no stratum and are taken, earliest first, when the strata and
    then the dropped ones run out. An infinite score widens no stratum: it counts as the largest
    (or smallest) finite one.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta {beta} is not in [0, 1)")
    scores = np.asarray(scores, dtype=float)
    visited = np.flatnonzero(~np.isnan(scores))
    if count >= len(visited):
        others = np.flatnonzero(np.isnan(scores))
        return np.sort(np.concatenate([visited, others[: count - len(visited)]]))
    difficulty = scores[visited] if hardest == "highest" else -scores[visited]
    dropped = min(int(beta * len(scores)), len(visited) - count)
    easier = np.argsort(-difficulty, kind="stable")[dropped:]
    rows, difficulty = visited[easier], difficulty[easier]

    stratum = _strata(difficulty, strata)
    budgets = stratum_budgets(np.bincount(stratum, minlength=strata), count)
    generator = np.random.default_rng(seed)
    kept = [
        generator.choice(np.sort(rows[stratum == number]), budget, replace=False)
        for number, budget in enumerate(budgets)
        if budget
    ]
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)


def _strata(values: np.ndarray, strata: int) -> np.ndarray:
    """Which of `strata` equal parts of their range the values (n,) lie in, int64 (n,)."""
    finite = values[np.isfinite(values)]
    if finite.size == 0 or finite.min() == finite.max():
        return np.zeros(len(values), dtype=np.int64)
    lowest, highest = float(finite.min()), float(finite.max())
    place = (np.clip(values, lowest, highest) - lowest) / (highest - lowest)
    return np.minimum((place * strata).astype(np.int64), strata - 1)
