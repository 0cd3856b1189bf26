"""The recommendation, on figures that were made by hand."""

from __future__ import annotations

import pytest

from samacli.pruning.curve import Point, recommend, standard_error_of_difference

FULL = Point("full", "", 1000, "steps", 100, (0.90, 0.92, 0.94))


def sama(keep: str, *accuracy: float, budget: str = "steps") -> Point:
    return Point("sama", keep, round(1000 * float(keep)), budget, 100, accuracy)  # type: ignore[arg-type]


def test_the_standard_error_is_of_the_difference_of_two_means() -> None:
    # Both samples have a deviation of 0.02: √(0.0004/3 + 0.0004/3).
    error = standard_error_of_difference(FULL, sama("0.5", 0.80, 0.82, 0.84))
    assert error == pytest.approx(0.0163299, abs=1e-6)


def test_the_smallest_subset_within_the_spread_is_recommended() -> None:
    points = [
        FULL,
        sama("0.9", 0.92, 0.92, 0.92),
        sama("0.5", 0.89, 0.91, 0.93),  # 0.01 below, less than the error of 0.016
        sama("0.3", 0.88, 0.90, 0.92),  # 0.02 below, more than that
        sama("0.1", 0.95, 0.95, 0.95, budget="epochs"),
        Point("random", "0.2", 200, "steps", 100, (0.99, 0.99, 0.99)),
    ]
    found = recommend(points, "sama", "steps")
    assert (found.keep, found.rows) == ("0.5", 500)
    assert "keep 0.5 (500 rows)" in found.sentence
    assert recommend(points, "sama", "epochs").keep == "0.1"


def test_none_is_recommended_where_all_lose() -> None:
    found = recommend([FULL, sama("0.5", 0.80, 0.82, 0.84)], "sama", "steps")
    assert (found.keep, found.rows) == (None, None)
    assert "none of the subsets" in found.sentence
    assert "0.820" in found.sentence


def test_one_seed_recommends_nothing() -> None:
    full = Point("full", "", 1000, "steps", 100, (0.9,))
    found = recommend([full, sama("0.5", 0.95)], "sama", "steps")
    assert found.keep is None
    assert "repeats=3" in found.sentence


def test_without_any_spread_a_subset_must_not_be_below() -> None:
    full = Point("full", "", 1000, "steps", 100, (0.9, 0.9))
    points = [full, sama("0.7", 0.9, 0.9), sama("0.5", 0.899, 0.899)]
    assert recommend(points, "sama", "steps").keep == "0.7"
