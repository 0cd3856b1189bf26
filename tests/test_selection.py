from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.errors import SamaError
from samacli.pruning.selection import (
    keep_count,
    keep_highest,
    keep_highest_by_class,
    keep_random,
    lost_classes,
)


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
    assert (keep_random(100, 30, 0) == keep_random(100, 30, 0)).all()
    assert (keep_random(100, 30, 0) != keep_random(100, 30, 1)).any()
    assert len(np.unique(keep_random(100, 30, 0))) == 30


def test_classes_that_vanish_are_named() -> None:
    assert lost_classes(np.array([0, 1, 1, 2, -1]), np.array([0, 1])) == [2]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=2, max_size=60), st.data())
def test_classes_keep_their_proportions(rows: list[tuple[int, float]], data: st.DataObject) -> None:
    labels = np.array([label for label, _ in rows])
    scores = np.array([score for _, score in rows])
    count = data.draw(st.integers(1, len(rows)))
    kept = keep_highest_by_class(scores, labels, count)
    assert len(kept) == len(np.unique(kept)) == count
    assert (np.diff(kept) > 0).all()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        inside = np.intersect1d(members, kept)
        assert abs(len(inside) - len(members) * count / len(rows)) < 1
        outside = np.setdiff1d(members, kept)
        if inside.size and outside.size:
            assert scores[inside].min() >= scores[outside].max()
