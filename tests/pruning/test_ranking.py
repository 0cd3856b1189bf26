"""One ranking from weights and trust."""

from __future__ import annotations

import numpy as np
import pytest

from samacli.pruning.label_noise import TRUSTED
from samacli.pruning.ranking import ORDERS, rank, rank_without_redundant

generator = np.random.default_rng(0)
WEIGHT = generator.uniform(0.5, 2.0, 300)
RIGHT = np.where(np.arange(300) % 5 == 0, generator.uniform(0, 0.8, 300), 0.99)
LABELS = generator.integers(0, 3, 300)


@pytest.mark.parametrize("order", ORDERS)
def test_rows_whose_label_is_doubted_come_last_the_most_doubted_at_the_end(order: str) -> None:
    scores = rank(WEIGHT, RIGHT, LABELS, order)  # type: ignore[arg-type]
    doubted = RIGHT <= TRUSTED
    assert scores[~doubted].min() >= 1 > scores[doubted].max()
    np.testing.assert_array_equal(scores[doubted], RIGHT[doubted])
    assert len(np.unique(scores[~doubted])) == (~doubted).sum(), "no ties"


def test_highest_and_lowest_are_by_weight() -> None:
    right = np.ones(300)
    np.testing.assert_array_equal(
        np.argsort(rank(WEIGHT, right, LABELS, "highest")), np.argsort(WEIGHT)
    )
    np.testing.assert_array_equal(
        np.argsort(rank(WEIGHT, right, LABELS, "lowest")), np.argsort(-WEIGHT)
    )


def test_of_equal_weights_the_surer_label_comes_first() -> None:
    right = np.array([0.85, 0.99, 0.9])
    for order in ("highest", "lowest"):
        scores = rank(np.ones(3), right, np.zeros(3, int), order)  # type: ignore[arg-type]
        assert scores.argsort().tolist() == [0, 2, 1]


@pytest.mark.parametrize("count", [3, 10, 37, 64])
def test_an_even_choice_of_any_size_leaves_no_gap(count: int) -> None:
    weight = generator.permutation(100) + 1.0
    scores = rank(weight, np.ones(100), np.zeros(100, int), "even")
    chosen = np.sort(weight[np.argsort(-scores)[:count]])
    gaps = np.diff(np.concatenate([[0.0], chosen, [101.0]]))
    assert gaps.max() <= 2 * np.ceil(100 / count) + 1, "twice the mean distance, at most"


def test_rows_without_a_label_come_last() -> None:
    right = RIGHT.copy()
    right[7] = np.nan
    assert rank(WEIGHT, right, LABELS, "highest")[7] == 0.0


def test_where_nearly_all_is_learnt_at_once_the_hardest_come_first() -> None:
    learnt = np.arange(300) % 10 != 3
    scores = rank_without_redundant(WEIGHT, 2 * WEIGHT, RIGHT, learnt, LABELS)
    trusted = RIGHT > TRUSTED
    order = np.argsort(-scores)
    tiers = [trusted & ~learnt, trusted & learnt, ~trusted]
    ends = np.cumsum([tier.sum() for tier in tiers])
    for tier, part in zip(tiers, np.split(order, ends[:-1]), strict=True):
        assert set(part) == set(np.flatnonzero(tier))
    easy = order[ends[0] : ends[1]]
    assert (np.diff(WEIGHT[easy]) <= 0).all()
    falling = rank_without_redundant(WEIGHT, -WEIGHT, RIGHT, learnt, LABELS)
    easy = np.argsort(-falling)[ends[0] : ends[1]]
    assert (np.diff(WEIGHT[easy]) >= 0).all(), "weights that fall with the loss: low is hard"


def test_where_little_is_learnt_at_once_nothing_that_is_trusted_is_redundant() -> None:
    learnt = np.arange(300) % 3 == 1
    scores = rank_without_redundant(WEIGHT, WEIGHT, RIGHT, learnt, LABELS)
    np.testing.assert_array_equal(scores, rank(WEIGHT, RIGHT, LABELS, "even"))


def test_what_was_not_learnt_at_once_is_covered_evenly() -> None:
    learnt = np.arange(300) % 3 > 0
    scores = rank_without_redundant(WEIGHT, WEIGHT, RIGHT, learnt, np.zeros(300, int))
    wanted = (RIGHT > TRUSTED) & ~learnt
    first = np.argsort(-scores)[: wanted.sum()]
    assert set(first) == set(np.flatnonzero(wanted))
    half = np.sort(WEIGHT[first[: len(first) // 2]])
    low, high = np.quantile(WEIGHT[first], [0.25, 0.75])
    assert (half < low).mean() == pytest.approx(0.25, abs=0.03)
    assert (half > high).mean() == pytest.approx(0.25, abs=0.03)


def test_no_label_that_can_be_trusted_leaves_the_order_of_trust() -> None:
    right = np.linspace(0.4, 0, 50)
    everything = np.ones(50)
    scores = rank_without_redundant(
        everything, everything, right, np.zeros(50, bool), np.zeros(50, int)
    )
    np.testing.assert_array_equal(scores, right)
