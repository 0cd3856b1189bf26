"""Accuracy against how much is kept, and the smallest subset that loses next to none."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from samacli.errors import counted
from samacli.training.difference import Difference, difference, paired_error

SURE = 0.95  # one-sided, of what is recommended
Budget = Literal["steps", "epochs"]


@dataclass(frozen=True)
class Point:
    """One subset, trained on from scratch once a seed.

    selection: what chose it: a score's name, "random", or "full" for all rows.
    keep: as it was asked for ("0.7"); "" for all. budget: whether training took as many steps as
    on all rows, or as many epochs. steps: what that came to. accuracy: on half of the test split,
    a seed. judged: bool (rows,) a seed, which rows of the other half were predicted rightly.
    """

    selection: str
    keep: str
    rows: int
    budget: Budget
    steps: int
    accuracy: tuple[float, ...]
    judged: tuple[np.ndarray, ...] = ()

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
    """The smallest subset that is shown to lose next to nothing, or why there is none.

    keep, rows: None where none qualifies. sentence: for the person who asked.
    """

    sentence: str
    keep: str | None = None
    rows: int | None = None


def recommend(
    points: Sequence[Point], selection: str, budget: Budget, margin: float
) -> Recommendation:
    """The smallest subset of `selection` that is shown to lose less accuracy than the margin.

    A test of non-inferiority: the lower bound of the difference to all rows, over seeds and test
    rows, is above −margin. Subsets are tested from the largest down, each only if all larger ones
    passed, so that one that loses the margin or more is recommended in at most a twentieth of the
    cases, however many are tested (fixed sequence: Maurer, Hothorn and Lehmacher 1995).

    One seed shows no spread: then nothing is recommended. `points` hold one "full".
    """
    full = next(point for point in points if point.selection == "full")
    candidates = sorted(
        (p for p in points if p.selection == selection and p.budget == budget),
        key=lambda point: -point.rows,
    )
    name, lost = f"at the same number of {budget}", f"{100 * margin:g} points of accuracy"
    if len(full.judged) < 2:
        return Recommendation(f"{name}: one seed shows no spread; verify with repeats=3 or more")
    if not candidates:
        return Recommendation(f"{name}: no subset was measured")
    rows = counted(len(full.judged[0]), "test row")
    judged = f"{len(full.judged)} seeds and {rows}"
    passed: tuple[Point, float, float] | None = None
    for point in candidates:
        lead = _lead(point, full)
        worst = lead.mean - lead.bound(SURE)
        if worst <= -margin:
            break
        passed = point, lead.mean, worst
    if passed is None:
        return Recommendation(
            f"{name}: no subset is shown to lose less than {lost}: keep {point.keep} is "
            f"{_points(lead.mean)} against all {full.rows:,} rows, but by {judged} it may be "
            f"{_points(worst)}; more of either may tell"
        )
    best, mean, worst = passed
    return Recommendation(
        f"{name}: keep {best.keep} ({counted(best.rows, 'row')}) is the smallest subset that is "
        "shown to "
        f"lose less than {lost}: {_points(mean)} against all {full.rows:,} rows, and "
        f"{_points(worst)} at worst ({SURE:.0%} bound over {judged}, which the curve is not drawn "
        "from)",
        best.keep,
        best.rows,
    )


def _lead(point: Point, full: Point) -> Difference:
    """Over all rows, on the rows that judge."""
    ours, all_rows = ([float(right.mean()) for right in one.judged] for one in (point, full))
    error = paired_error(point.judged, full.judged)
    lead = difference(ours, all_rows, len(full.judged[0]), error)
    assert lead is not None  # every subset is trained with every seed
    return lead


def _points(difference: float) -> str:
    """`+0.3 points`, of a hundred."""
    return f"{100 * difference:+.1f} points".replace("-", "−")
