"""How a clean set is shared out between the levels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samacli.data.carve import halves

labels = st.lists(st.integers(0, 5), max_size=60).map(lambda ids: np.array(ids, dtype=np.int64))


@given(labels, st.integers(0, 2**31), st.none() | st.integers(1, 8))
def test_the_parts_are_disjoint_and_share_each_class(
    ids: np.ndarray, seed: int, at_most: int | None
) -> None:
    first, second = halves(ids, seed, at_most=at_most)
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(len(ids)))
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()
    for label, size in zip(*np.unique(ids, return_counts=True), strict=True):
        expected = (size + 1) // 2 if at_most is None else min((size + 1) // 2, at_most)
        assert (ids[second] == label).sum() == expected


def test_a_class_of_one_row_is_in_the_second_part() -> None:
    first, second = halves(np.array([0, 0, 0, 0, 1]), seed=0)
    assert len(first) == 2
    assert 4 in second


def test_the_seed_decides_and_nothing_else() -> None:
    ids = np.arange(80) % 4
    first, _ = halves(ids, seed=3)
    assert np.array_equal(first, halves(ids, seed=3)[0])
    assert not np.array_equal(first, halves(ids, seed=4)[0])
    assert np.bincount(ids[first]).tolist() == [10] * 4
