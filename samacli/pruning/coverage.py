"""CCS, coverage-centric selection: every level of difficulty is represented, but the hardest.

Zheng, Liu, Lai, Prakash: "Coverage-centric coreset selection for high pruning rates" (ICLR 2023),
algorithm 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

STRATA = 50  # the paper's


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
    """`count` rows at random from strata of equal width over the range of the scores (n,).

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
    if finite.size == 0:
        return np.zeros(len(values), dtype=np.int64)
    lowest, highest = float(finite.min()), float(finite.max())
    if lowest == highest:
        return np.zeros(len(values), dtype=np.int64)
    place = (np.clip(values, lowest, highest) - lowest) / (highest - lowest)
    return np.minimum((place * strata).astype(np.int64), strata - 1)
