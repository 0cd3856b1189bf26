"""Results over seeds: their mean and their spread, as numbers and as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for one value, the former nan of none.

    The two of `statistics`, exact to the last digit, which pandas' are not.
    """
    if not values:
        return float("nan"), None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def with_spread(values: Sequence[float], digits: int = 3) -> str:
    """`0.812 ± 0.010`, or one value, or a dash."""
    return shown(*mean_and_spread(values), digits) if values else "–"


def shown(mean: float, spread: float | None, digits: int = 3, sign: str = "") -> str:
    """`0.812 ± 0.010`, or the mean alone. sign: "+" also shows that of a positive mean."""
    text = f"{mean:{sign}.{digits}f}"
    return text if spread is None else f"{text} ± {spread:.{digits}f}"
