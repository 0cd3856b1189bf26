"""Figures in words, and whether two methods can be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from samacli.training.spread import mean_and_spread

_SURE = 0.95


def signed(value: float, digits: int = 3) -> str:
    """`+0.012`, `−0.012`; 0 where it rounds to that."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else ("−" if value < 0 else "+") + text


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def size(count: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


@dataclass(frozen=True)
class Difference:
    """By how much one method's accuracy is above another's, on the same test rows.

    mean, spread: over seeds, paired (spread None for one seed). margin: half of a 95 % interval.
    """

    mean: float
    spread: float | None
    margin: float

    @property
    def clear(self) -> bool:
        """Whether it is more than the margin."""
        return abs(self.mean) > self.margin

    @property
    def text(self) -> str:
        return signed(self.mean) + ("" if self.spread is None else f" ± {self.spread:.3f}")


def difference(ours: Sequence[float], theirs: Sequence[float], tested: int) -> Difference | None:
    """Accuracies seed by seed, of `tested` rows; None unless both have one for each seed.

    The margin adds two sources of chance in squares: seeds (Student's t over the paired
    differences; not known from one seed) and the choice of test rows (two binomials, as if
    independent: both saw the same rows, so this is rather too wide than too narrow).
    """
    if not ours or len(ours) != len(theirs):
        return None
    pairs = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, spread = mean_and_spread(pairs)
    seeds = 0.0
    if spread is not None:
        quantile = float(stdtrit(len(pairs) - 1, (1 + _SURE) / 2))  # Student's t
        seeds = quantile * spread / math.sqrt(len(pairs))
    rows = 0.0
    if tested > 0:
        a, b = mean_and_spread(ours)[0], mean_and_spread(theirs)[0]
        rows = 1.96 * math.sqrt((a * (1 - a) + b * (1 - b)) / tested)
    return Difference(mean, spread, math.hypot(seeds, rows))
