"""Rows to ask about: by the formula, spread out, of what is alike one, and not what is known."""

from __future__ import annotations

import numpy as np
import pytest

from samacli.review.choice import _directions, choose

NONE = np.zeros((0, 5))


def blobs(sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features of rows in tight groups far apart, and each row's group."""
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    noise = generator.normal(0, 0.05, (len(groups), len(sizes)))
    return 5 * np.eye(len(sizes))[groups] + noise, groups


def test_each_row_lowers_the_variance_of_ridge_regression_most() -> None:
    """Every candidate tried, each time with the inverse from scratch."""
    generator = np.random.default_rng(0)
    features, known = generator.normal(size=(30, 6)), generator.normal(size=(4, 6))
    rows, others = _directions(features, known)

    def variance(labelled: np.ndarray) -> float:
        covariance = np.linalg.inv(np.eye(6) + labelled.T @ labelled)
        return float(np.einsum("ij,jk,ik->", rows, covariance, rows))

    asked: list[int] = []
    for _ in range(9):
        tried = {
            i: variance(np.concatenate([others, rows[[*asked, i]]]))
            for i in range(30)
            if i not in asked
        }
        asked.append(min(tried, key=tried.__getitem__))
    assert choose(features, known, 9).rows.tolist() == asked


def test_of_many_copies_of_one_mistake_one_is_asked_about() -> None:
    features, groups = blobs([500, 20, 20, 20, 20])
    found = choose(features, NONE, 5)
    assert sorted(groups[found.rows]) == [0, 1, 2, 3, 4]
    assert sorted(found.like.tolist()) == [20, 20, 20, 20, 500]


def test_what_the_clean_set_has_already_comes_last() -> None:
    features, groups = blobs([40] * 5)
    known = features[groups < 3][::40]
    found = choose(features, known, 2)
    assert sorted(groups[found.rows]) == [3, 4]
    assert found.like.tolist() == [40, 40], "rows that are nearer to a clean one are none of theirs"


@pytest.mark.parametrize("budget", [1, 7, 40])
def test_as_many_rows_as_asked_for_each_once(budget: int) -> None:
    """Of rows that are all alike, too."""
    for features in (np.zeros((40, 3)), np.random.default_rng(0).normal(size=(40, 3))):
        found = choose(features.astype(np.float32), NONE[:, :3], budget)
        assert len(np.unique(found.rows)) == len(found.rows) == len(found.like) == budget
        assert (choose(features.astype(np.float32), NONE[:, :3], budget).rows == found.rows).all()
