"""One ranking from weights and trust."""

from __future__ import annotations

import numpy as np
import pytest

from samacli.pruning.label_noise import TRUSTED
from samacli.pruning.ranking import ORDERS, rank

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
