"""Differences of accuracies, against scipy and against simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from samacli.training.difference import difference, paired_error


def test_a_difference_has_the_t_interval_of_its_pairs() -> None:
    ours, theirs = [0.8, 0.83, 0.81], [0.7, 0.75, 0.7]
    found = difference(ours, theirs, tested=10**12)  # no chance left in the rows
    assert found is not None
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.mean - found.bound(0.975) == pytest.approx(low)
    assert found.mean + found.bound(0.975) == pytest.approx(high)
    assert difference([0.8], [], tested=100) is None


def test_one_seed_has_no_bound() -> None:
    found = difference([0.912], [0.9], tested=10_000)
    assert found is not None
    assert math.isinf(found.bound(0.95))


def test_rows_count_where_seeds_are_all_alike() -> None:
    found = difference([0.9, 0.9], [0.8, 0.8], tested=400)
    assert found is not None
    error = math.sqrt((0.9 * 0.1 + 0.8 * 0.2) / 400)
    assert found.bound(0.975) == pytest.approx(stats.norm.ppf(0.975) * error)
    paired = difference([0.9, 0.9], [0.8, 0.8], 400, rows_error=0.001)
    assert paired is not None
    assert paired.bound(0.975) == pytest.approx(stats.norm.ppf(0.975) * 0.001)


def test_the_error_of_pairs_is_that_of_the_rows_own_differences() -> None:
    generator = np.random.default_rng(0)
    base = generator.random(500) < 0.8
    ours, theirs = ([base ^ (generator.random(500) < 0.05) for _ in range(3)] for _ in range(2))
    each = np.mean(ours, axis=0) - np.mean(theirs, axis=0)
    assert paired_error(ours, theirs) == pytest.approx(stats.sem(each))
    apart = math.sqrt(2 * 0.8 * 0.2 / 500)
    assert paired_error(ours, theirs) < apart  # type: ignore[operator]
    assert paired_error(ours, theirs[:2]) is None
    assert paired_error([base], [base]) > 0, "equal on these rows need not be on others"  # type: ignore[operator]
