"""The recommendation, on figures made by hand and on simulations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from samacli.pruning.curve import Point, recommend

ROWS = 2000
MARGIN = 0.005


def rights(*accuracy: float, rows: int = ROWS) -> tuple[np.ndarray, ...]:
    """Of nested rows: a seed's model gets the first so many right."""
    return tuple(np.arange(rows) < round(value * rows) for value in accuracy)


FULL = Point("full", "", 1000, "steps", 100, (0.9, 0.9, 0.9), rights(0.90, 0.91, 0.92))


def sama(keep: str, *accuracy: float, budget: str = "steps") -> Point:
    rows = round(1000 * float(keep))
    return Point("sama", keep, rows, budget, 100, (0.9,), rights(*accuracy))  # type: ignore[arg-type]


def test_the_smallest_subset_that_is_shown_to_lose_next_to_nothing_is_recommended() -> None:
    points = [
        FULL,
        sama("0.9", 0.91, 0.92, 0.93),
        sama("0.5", 0.899, 0.909, 0.919),  # a tenth of a point, always
        sama("0.3", 0.88, 0.90, 0.92),
        sama("0.1", 0.95, 0.96, 0.97),  # not tested: a larger one failed
        sama("0.1", 0.95, 0.96, 0.97, budget="epochs"),
        Point("random", "0.2", 200, "steps", 100, (0.99,), rights(0.99, 0.99, 0.99)),
    ]
    found = recommend(points, "sama", "steps", MARGIN)
    assert (found.keep, found.rows) == ("0.5", 500)
    assert "keep 0.5 (500 rows)" in found.sentence
    assert "lose less than 0.5 points of accuracy: −0.1 points" in found.sentence
    assert "3 seeds and 2,000 test rows" in found.sentence
    assert recommend(points, "sama", "epochs", MARGIN).keep == "0.1"


def test_the_bound_is_students_over_seeds() -> None:
    """Differences of −2, −1 and 0 points, by rows so many that they add nothing."""
    point = sama("0.3", 0.88, 0.90, 0.92)
    error = np.std([-0.02, -0.01, 0.0], ddof=1) / np.sqrt(3)
    bound = -0.01 - stats.t.ppf(0.95, 2) * error
    assert recommend([FULL, point], "sama", "steps", -bound + 0.003).keep == "0.3"
    assert recommend([FULL, point], "sama", "steps", -bound - 0.003).keep is None


def test_none_is_recommended_where_all_lose() -> None:
    found = recommend([FULL, sama("0.5", 0.80, 0.82, 0.84)], "sama", "steps", MARGIN)
    assert (found.keep, found.rows) == (None, None)
    assert "no subset is shown to lose less than 0.5 points" in found.sentence
    assert "keep 0.5 is −9.0 points" in found.sentence
    assert recommend([FULL], "sama", "steps", MARGIN).keep is None


def test_one_seed_recommends_nothing() -> None:
    full = Point("full", "", 1000, "steps", 100, (0.9,), rights(0.9))
    found = recommend([full, sama("0.5", 0.95)], "sama", "steps", MARGIN)
    assert found.keep is None
    assert "repeats=3" in found.sentence


def drawn(generator: np.random.Generator, accuracy: float, hard: np.ndarray) -> tuple:  # type: ignore[type-arg]
    """Three seeds' predictions of the same rows, each seed a little better or worse."""
    found = []
    for _ in range(3):
        own = accuracy + 0.004 * generator.normal()
        found.append(hard + 0.3 * generator.normal(size=len(hard)) < stats.norm.ppf(own) * 1.044)
    return tuple(found)


def test_a_subset_that_loses_the_margin_is_seldom_recommended() -> None:
    """Seven subsets at the edge of what may be lost: one in twenty at most, of all together."""
    generator = np.random.default_rng(0)
    wrong = trials = 0
    for _ in range(120):
        hard = generator.normal(size=1500)
        full = Point("full", "", 1000, "steps", 100, (0.9,), drawn(generator, 0.9, hard))
        lost = [
            Point("sama", f"0.{k}", 100 * k, "steps", 1, (0.9,), drawn(generator, 0.885, hard))
            for k in range(1, 8)
        ]
        wrong += recommend([full, *lost], "sama", "steps", 0.015).keep is not None
        trials += 1
    assert stats.binomtest(wrong, trials, 0.05, alternative="greater").pvalue > 0.01


def test_an_equal_subset_is_recommended_where_rows_are_many() -> None:
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(20):
        hard = generator.normal(size=20_000)
        full, same = (drawn(generator, 0.9, hard) for _ in range(2))
        points = [
            Point("full", "", 1000, "steps", 100, (0.9,), full),
            Point("sama", "0.5", 500, "steps", 100, (0.9,), same),
        ]
        found += recommend(points, "sama", "steps", 0.03).keep == "0.5"
    assert found >= 18


@pytest.mark.parametrize("margin", [0.005, 0.02])
def test_equal_predictions_on_few_rows_show_little(margin: float) -> None:
    full = Point("full", "", 1000, "steps", 100, (0.9,), rights(0.9, 0.9, 0.9, rows=20))
    same = Point("sama", "0.5", 500, "steps", 100, (0.9,), rights(0.9, 0.9, 0.9, rows=20))
    assert recommend([full, same], "sama", "steps", margin).keep is None
