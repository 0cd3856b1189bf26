"""How far probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

LEVEL = 0.9
_BINS, _FEWEST = 10, 20  # of a reliability diagram, and rows in each
_DRAWS = 2000


@dataclass(frozen=True)
class Bin:
    """Rows of about one probability: its mean, the share that is wrong with an exact interval."""

    probability: float
    wrong: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Reliability:
    """How far probabilities agree with how often they come true.

    ece: expected calibration error, the mean over bins of |mean probability − share wrong|, less
    what chance adds to it. low, high: its interval at `level`.
    """

    ece: float
    low: float
    high: float
    level: float
    rows: int
    bins: tuple[Bin, ...]


def reliability(
    probability: np.ndarray,
    wrong: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    fitted: bool = False,
) -> Reliability | None:
    """In bins of equally many rows; None for fewer than two of these.

    Even exact probabilities leave a gap in each bin, a binomial's, whose size does not cancel; what
    drawing the shares again adds to the error is taken off (Kumar, Liang and Ma 2019), about half
    of it.

    probability: (m,), NaN for none. wrong: bool (m,). weight: (m,). fitted: whether they were
    fitted on these rows, whose mean they have then: by how much that differs from other rows' is
    not seen in them, and widens the interval.
    """
    known = np.isfinite(probability)
    probability, wrong = probability[known], wrong[known]
    weight = np.ones(len(wrong)) if weight is None else weight[known]
    count = min(_BINS, len(wrong) // _FEWEST)
    if count < 2:
        return None
    parts = np.array_split(np.argsort(probability, kind="stable"), count)
    shares = np.array([weight[part].sum() for part in parts]) / weight.sum()
    mean = np.array([np.average(probability[part], weights=weight[part]) for part in parts])
    found = np.array([np.average(wrong[part], weights=weight[part]) for part in parts])
    # Rows of unlike weight tell as much as so many alike (Kish 1965).
    rows = np.array([weight[part].sum() ** 2 / (weight[part] ** 2).sum() for part in parts])
    smooth = (found * rows + 0.5) / (rows + 1)
    error = np.sqrt(smooth * (1 - smooth) / rows)
    gaps = mean - found
    plain = float(shares @ np.abs(gaps))
    noise = np.random.default_rng(0).normal(size=(_DRAWS, len(parts))) * error
    again = np.abs(gaps + noise) @ shares
    tail = (1 - LEVEL) / 2
    low, high = 2 * plain - np.quantile(again, [1 - tail, tail])
    if fitted:
        high = high + float(np.quantile(np.abs(noise @ shares), LEVEL))
    bins = tuple(
        Bin(float(p), float(w), *exact_interval(float(w), float(n), LEVEL), len(part))
        for p, w, n, part in zip(mean, found, rows, parts, strict=True)
    )
    ece = max(0.0, 2 * plain - float(again.mean()))
    return Reliability(ece, max(0.0, float(low)), max(0.0, float(high)), LEVEL, len(wrong), bins)


def exact_interval(rate: float, rows: float, level: float) -> tuple[float, float]:
    """Clopper and Pearson's (1934), of a rate among so many rows, which may be no whole number."""
    tail, count = (1 - level) / 2, rate * rows
    low = 0.0 if count <= 0 else float(beta.ppf(tail, count, rows - count + 1))
    high = 1.0 if count >= rows else float(beta.ppf(1 - tail, count + 1, rows - count))
    return low, high


def as_fields(found: Reliability) -> dict[str, Any]:
    """For metrics.json."""
    return {**vars(found), "bins": [vars(one) for one in found.bins]}
