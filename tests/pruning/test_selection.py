"""Selections against brute force: rank every row by hand and take from the top."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.pruning.selection import (
    class_quotas,
    copies_last,
    keep_above,
    keep_below,
    keep_by_class,
    keep_covering,
    keep_highest,
    keep_lowest,
    stratum_budgets,
)

# Few values, so that ties are common; and rows that were never visited.
SCORES = st.lists(
    st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.5, math.inf, -math.inf, math.nan]) | st.floats(-3, 3),
    min_size=1,
    max_size=40,
)


def ranked(scores: list[float], lowest: bool = False) -> list[int]:
    """Rows, best first, by Python's own sort: scored before unscored, ties by row."""
    sign = 1 if lowest else -1
    return sorted(
        range(len(scores)),
        key=lambda row: (
            math.isnan(scores[row]),
            0 if math.isnan(scores[row]) else sign * scores[row],
            row,
        ),
    )


@given(SCORES, st.data())
def test_either_end(scores: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(scores)))
    values = np.array(scores)
    assert keep_highest(values, count).tolist() == sorted(ranked(scores)[:count])
    assert keep_lowest(values, count).tolist() == sorted(ranked(scores, lowest=True)[:count])


@given(SCORES, st.floats(-3, 3))
def test_thresholds_never_keep_an_unscored_row(scores: list[float], threshold: float) -> None:
    values = np.array(scores)
    above = [row for row, score in enumerate(scores) if score >= threshold]
    below = [row for row, score in enumerate(scores) if score <= threshold]
    assert keep_above(values, threshold).tolist() == above
    assert keep_below(values, threshold).tolist() == below


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.data())
def test_quotas_are_the_nearest_whole_shares(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, sum(sizes)))
    quotas = class_quotas(np.array(sizes), count)
    assert quotas.sum() == count
    for size, quota in zip(sizes, quotas, strict=True):
        assert 0 <= quota <= size
        assert abs(quota - size * count / sum(sizes)) < 1


def test_quotas_of_very_many_rows_are_exact() -> None:
    sizes = np.array([333_333_333_333, 333_333_333_334, 333_333_333_333])
    assert class_quotas(sizes, 3_000_000).sum() == 3_000_000


@given(SCORES, st.data())
def test_each_class_is_ranked_by_itself(scores: list[float], data: st.DataObject) -> None:
    labels = np.array(
        data.draw(st.lists(st.integers(-1, 2), min_size=len(scores), max_size=len(scores)))
    )
    count = data.draw(st.integers(1, len(scores)))
    kept = keep_by_class(np.array(scores), labels, count, keep_lowest)
    assert len(kept) == count
    for label in np.unique(labels):
        order = [row for row in ranked(scores, lowest=True) if labels[row] == label]
        mine = [row for row in kept if labels[row] == label]
        assert mine == sorted(order[: len(mine)])


# --- CCS, against the paper's algorithm 1 as its text has it, with the paper's loops


def paper_budgets(strata: list[int], m: int) -> list[int]:
    """Lines 5 to 12: while 𝓑 is not empty, take from the smallest min(|B_min|, ⌊m/|𝓑|⌋)."""
    left = dict(enumerate(strata))
    budgets = [0] * len(strata)
    while left:
        smallest = min(left, key=lambda number: left[number])
        share = min(left[smallest], m // len(left))
        budgets[smallest] = share
        del left[smallest]
        m -= share
    return budgets


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.data())
def test_budgets_are_those_of_the_paper(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, sum(sizes)))
    budgets = stratum_budgets(np.array(sizes), count)
    assert budgets.tolist() == paper_budgets(sizes, count)
    assert budgets.sum() == count


@given(
    st.lists(st.floats(-4, 4), min_size=2, max_size=60),
    st.integers(1, 8),
    st.floats(0, 0.5),
    st.sampled_from(["lowest", "highest"]),
    st.data(),
)
def test_coverage_is_that_of_the_paper(
    scores: list[float], strata: int, beta: float, hardest: str, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(scores)))
    kept = keep_covering(
        np.array(scores),
        count,
        seed=3,
        beta=beta,
        hardest=hardest,
        strata=strata,  # type: ignore[arg-type]
    )
    assert len(kept) == len(set(kept.tolist())) == count
    assert (np.diff(kept) > 0).all()

    order = ranked(scores, lowest=hardest == "lowest")  # the hardest first
    dropped = min(math.floor(beta * len(scores)), len(scores) - count)
    rest = order[dropped:]
    assert not set(order[:dropped]) & set(kept.tolist())
    low, high = min(scores[row] for row in rest), max(scores[row] for row in rest)
    members: dict[int, list[int]] = {number: [] for number in range(strata)}
    width = (high - low) / strata
    for row in rest:
        place = (
            0 if width == 0 else min(int((scores[row] - low) / (high - low) * strata), strata - 1)
        )
        members[place].append(row)
    # Which stratum of two equally small ones comes first is not the paper's to say; a value on the
    # line between two strata may fall to either by rounding. Neither changes how many come from
    # strata of each size, unless a value is on a line.
    on_a_line = any(
        width
        and abs((scores[row] - low) / width - round((scores[row] - low) / width)) < 1e-6
        and low < scores[row] < high
        for row in rest
    )
    if not on_a_line:
        wanted = paper_budgets([len(members[number]) for number in range(strata)], count)
        taken = [len(set(members[number]) & set(kept.tolist())) for number in range(strata)]
        assert sorted(taken) == sorted(wanted)


def test_coverage_draws_at_random_and_by_its_seed() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    first, again, other = (keep_covering(scores, 200, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    # Against ranking, all levels are there; the hardest tenth is not.
    hardest = np.argsort(scores)[:100]
    assert not np.isin(hardest, first).any()
    assert scores[first].min() < -1
    assert scores[first].max() > 2


def test_coverage_takes_unscored_and_hardest_rows_last() -> None:
    scores = np.array([np.nan, 0.0, 1.0, 2.0, np.nan, 3.0])
    assert keep_covering(scores, 3, seed=0, beta=0.3).tolist() == [2, 3, 5]
    assert keep_covering(scores, 4, seed=0, beta=0.3).tolist() == [1, 2, 3, 5]
    assert keep_covering(scores, 5, seed=0, beta=0.3).tolist() == [0, 1, 2, 3, 5]
    assert keep_covering(np.full(4, np.nan), 2, seed=0).tolist() == [0, 1]
    with pytest.raises(ValueError, match="beta"):
        keep_covering(scores, 2, seed=0, beta=1.0)


# --- copies


@given(SCORES, st.data())
def test_copies_go_first(scores: list[float], data: st.DataObject) -> None:
    size = len(scores)
    groups = np.array(data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)))
    count = data.draw(st.integers(1, size))
    kept = copies_last(np.array(scores), groups, count).tolist()

    order = ranked(scores)
    stand_in = {groups[row]: row for row in reversed(order)}  # the best row of each group
    best_first = [row for row in order if stand_in[groups[row]] == row]
    copies = [row for row in order if stand_in[groups[row]] != row]
    assert kept == sorted((best_first + copies)[:count])


def test_each_class_loses_its_copies_first() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    scores = np.array([9.0, 8, 7, 6, 5, 4, 3, 2])
    groups = np.array([0, 0, 0, 1, 2, 3, 4, 2])
    kept = keep_by_class(scores, labels, 4, groups=groups)
    assert kept.tolist() == [0, 3, 4, 5]
    assert keep_by_class(scores, labels, 6, groups=groups).tolist() == [0, 1, 3, 4, 5, 6]
