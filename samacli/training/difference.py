"""By how much one way of training is more accurate than another, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from samacli.training.spread import mean_and_spread


@dataclass(frozen=True)
class Difference:
    """Of two accuracies on the same test rows.

    mean, spread: over `seeds` seeds, paired (spread None for one seed). rows_error: standard error
    of the mean that comes of which test rows there are.
    """

    mean: float
    spread: float | None
    seeds: int
    rows_error: float

    def bound(self, level: float) -> float:
        """How far the mean may be above (or below) the truth, at that one-sided level.

        Two sources of chance, added in squares: seeds (Student's t) and test rows (normal).
        Infinite for one seed, which does not show what another would give.
        """
        if self.spread is None:
            return math.inf
        seeds = float(stdtrit(self.seeds - 1, level)) * self.spread / math.sqrt(self.seeds)
        return math.hypot(seeds, float(ndtri(level)) * self.rows_error)


def difference(
    ours: Sequence[float],
    theirs: Sequence[float],
    tested: int,
    rows_error: float | None = None,
) -> Difference | None:
    """Of accuracies seed by seed, of `tested` rows; None unless both have one for each seed.

    rows_error: from `paired_error`; None: of two binomials as if independent. Both saw the same
    rows, so that this is rather too much than too little.
    """
    if not ours or len(ours) != len(theirs):
        return None
    mean, spread = mean_and_spread([a - b for a, b in zip(ours, theirs, strict=True)])
    if rows_error is None:
        a, b = mean_and_spread(ours)[0], mean_and_spread(theirs)[0]
        rows_error = math.sqrt((a * (1 - a) + b * (1 - b)) / tested) if tested > 0 else math.inf
    return Difference(mean, spread, len(ours), rows_error)


def paired_error(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float | None:
    """Standard error of a difference of accuracies from the choice of test rows.

    From each row's own difference, its mean over the seeds.

    ours, theirs: bool (rows,) a seed, whether each was predicted rightly. None unless both have as
    many seeds, and two rows or more.
    """
    if not ours or len(ours) != len(theirs) or len(ours[0]) < 2:
        return None
    each = np.mean(ours, axis=0, dtype=float) - np.mean(theirs, axis=0, dtype=float)
    # Where all agree, three rows in so many may yet be lost with a probability of 5 % (the rule of
    # three): about two standard errors.
    return max(float(each.std(ddof=1)) / math.sqrt(len(each)), 1.8 / len(each))
