"""Selections against brute force: rank every row by hand and take from the top."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.errors import SamaError
from samacli.pruning.scores import Random
from samacli.pruning.selection import (
    class_quotas,
    copies_last,
    keep_by_class,
    keep_count,
    keep_covering,
    keep_highest,
    lost_classes,
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
    assert keep_highest(-values, count).tolist() == sorted(ranked(scores, lowest=True)[:count])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.data())
def test_quotas_are_the_nearest_whole_shares(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, sum(sizes)))
    quotas = class_quotas(np.array(sizes), count)
    assert quotas.sum() == count
    for size, quota in zip(sizes, quotas, strict=True):
        assert 0 <= quota <= size
    if count >= len(sizes):
        assert quotas.min() >= 1, "no class vanishes"
    if all(size * count >= sum(sizes) for size in sizes):
        shares = np.array(sizes) * count / sum(sizes)
        assert np.abs(quotas - shares).max() < 1


def test_a_rare_class_takes_its_row_of_the_class_that_keeps_most() -> None:
    assert class_quotas(np.array([1000, 500, 5, 5]), 15).tolist() == [8, 5, 1, 1]
    assert class_quotas(np.array([1000, 500, 5, 5]), 3).tolist() == [1, 1, 1, 0]


def test_quotas_of_very_many_rows_are_exact() -> None:
    sizes = np.array([333_333_333_333, 333_333_333_334, 333_333_333_333])
    assert class_quotas(sizes, 3_000_000).sum() == 3_000_000


@given(SCORES, st.data())
def test_each_class_is_ranked_by_itself(scores: list[float], data: st.DataObject) -> None:
    labels = np.array(
        data.draw(st.lists(st.integers(-1, 2), min_size=len(scores), max_size=len(scores)))
    )
    count = data.draw(st.integers(1, len(scores)))
    kept = keep_by_class(-np.array(scores), labels, count)
    assert len(kept) == count
    for label in np.unique(labels):
        order = [row for row in ranked(scores, lowest=True) if labels[row] == label]
        mine = [row for row in kept if labels[row] == label]
        assert mine == sorted(order[: len(mine)])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.data())
def test_the_highest_are_kept_in_input_order(scores: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    values = np.array(scores)
    kept = keep_highest(values, count)
    assert len(kept) == count
    assert (np.diff(kept) > 0).all()
    left = np.setdiff1d(np.arange(len(values)), kept)
    assert left.size == 0 or values[kept].min() >= values[left].max()


def test_fractions_and_counts() -> None:
    assert keep_count(0.7, 1000) == 700
    assert keep_count(1.0, 1000) == 1000
    assert keep_count(5, 1000) == 5
    with pytest.raises(SamaError, match=r"--keep 1001 asks for 1,001 rows"):
        keep_count(1001, 1000)
    with pytest.raises(SamaError, match=r"leaves none"):
        keep_count(0.01, 10)


def test_random_rows_differ_by_seed_and_not_by_call() -> None:
    def drawn(seed: int) -> np.ndarray:
        return keep_highest(Random(100, seed=seed).result(), 30)

    assert (drawn(0) == drawn(0)).all()
    assert (drawn(0) != drawn(1)).any()
    assert len(np.unique(drawn(0))) == 30


def test_classes_that_vanish_are_named() -> None:
    assert lost_classes(np.array([0, 1, 1, 2, -1]), np.array([0, 1])) == [2]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=2, max_size=60), st.data())
def test_classes_keep_their_proportions(rows: list[tuple[int, float]], data: st.DataObject) -> None:
    labels = np.array([label for label, _ in rows])
    scores = np.array([score for _, score in rows])
    count = data.draw(st.integers(1, len(rows)))
    kept = keep_by_class(scores, labels, count)
    assert len(kept) == len(np.unique(kept)) == count
    assert (np.diff(kept) > 0).all()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        inside = np.intersect1d(members, kept)
        share = len(members) * count / len(rows)
        assert abs(len(inside) - share) < 1 or len(inside) >= 1, "a rare class had a row of it"
        outside = np.setdiff1d(members, kept)
        if inside.size and outside.size:
            assert scores[inside].min() >= scores[outside].max()


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
