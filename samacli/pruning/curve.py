"""Accuracy against how much is kept, and the smallest subset that loses none."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Budget = Literal["steps", "epochs"]


@dataclass(frozen=True)
class Point:
    """One subset, trained on from scratch once a seed.

    selection: what chose it: a score's name, "random", or "full" for all rows.
    keep: as it was asked for ("0.7"); "" for all. budget: whether training took as many steps as
    on all rows, or as many epochs. steps: what that came to. accuracy: on the test split, a seed.
    """

    selection: str
    keep: str
    rows: int
    budget: Budget
    steps: int
    accuracy: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """As files tell it, mean and spread before what they are of."""
        names = ("selection", "keep", "rows", "budget", "steps", "mean", "spread", "accuracy")
        return {name: getattr(self, name) for name in names}

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracy)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        return statistics.stdev(self.accuracy) if len(self.accuracy) > 1 else None


@dataclass(frozen=True)
class Recommendation:
    """The smallest subset that loses no accuracy, or why there is none.

    keep, rows: None where none qualifies. sentence: for the person who asked.
    """

    sentence: str
    keep: str | None = None
    rows: int | None = None


def standard_error_of_difference(one: Point, other: Point) -> float | None:
    """√(s₁²/n₁ + s₂²/n₂) of the two means; None where a point has one seed alone."""
    if one.spread is None or other.spread is None:
        return None
    return math.hypot(
        one.spread / math.sqrt(len(one.accuracy)), other.spread / math.sqrt(len(other.accuracy))
    )


def recommend(points: Sequence[Point], selection: str, budget: Budget) -> Recommendation:
    """The smallest subset of `selection` whose mean accuracy is not below that on all rows by more
    than the standard error of the difference.

    One seed has no spread: then nothing is recommended. `points` hold one "full".
    """
    full = next(point for point in points if point.selection == "full")
    candidates = sorted(
        (p for p in points if p.selection == selection and p.budget == budget),
        key=lambda point: point.rows,
    )
    name = f"at the same number of {budget}"
    if len(full.accuracy) < 2:
        return Recommendation(f"{name}: one seed shows no spread; verify with repeats=3 or more")
    for point in candidates:
        error = standard_error_of_difference(point, full)
        if error is not None and point.mean >= full.mean - error:
            return Recommendation(
                f"{name}: keep {point.keep} ({point.rows:,} rows) is the smallest subset that "
                f"loses no accuracy: {point.mean:.3f} against {full.mean:.3f} on all "
                f"{full.rows:,} rows (standard error of the difference {error:.3f})",
                point.keep,
                point.rows,
            )
    if not candidates:
        return Recommendation(f"{name}: no subset was measured")
    best = max(candidates, key=lambda point: point.mean)
    return Recommendation(
        f"{name}: none of the subsets keeps the accuracy of all {full.rows:,} rows "
        f"({full.mean:.3f}); nearest is keep {best.keep} with {best.mean:.3f}"
    )
