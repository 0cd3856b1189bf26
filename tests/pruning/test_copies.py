"""Near-duplicates against the full matrix of cosines."""

from __future__ import annotations

import numpy as np
import pytest

from samacli.errors import SamaError
from samacli.pruning.duplicates import near_duplicate_groups


def clusters(rows: int, width: int, seed: int, copies: float = 0.3) -> np.ndarray:
    """Random directions, some of them near-copies of others, at scattered lengths."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(rows, width))
    for row in np.flatnonzero(generator.random(rows) < copies):
        points[row] = points[generator.integers(rows)] + 0.15 * generator.normal(size=width)
    return points * generator.uniform(0.1, 10, size=(rows, 1))


def brute_force(embeddings: np.ndarray, threshold: float) -> np.ndarray:
    """Flood fill over the full float64 matrix."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    near = unit @ unit.T >= threshold
    groups = np.full(len(unit), -1)
    for row in range(len(unit)):
        if groups[row] >= 0:
            continue
        number, queue = groups.max() + 1, [row]
        while queue:
            one = queue.pop()
            if groups[one] < 0:
                groups[one] = number
                queue.extend(np.flatnonzero(near[one] & (groups < 0)))
    return groups


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("threshold", [0.9, 0.97])
def test_exact_groups_are_those_of_the_full_matrix(block: int, threshold: float) -> None:
    points = clusters(150, 24, seed=block)
    expected = brute_force(points, threshold)
    assert 1 < expected.max() + 1 < 150, "some are joined, not all"
    found = near_duplicate_groups(points, threshold, block=block)
    assert found.tolist() == expected.tolist()


def test_faiss_finds_the_same_groups() -> None:
    pytest.importorskip("faiss")
    points = clusters(3000, 32, seed=5)
    exact = near_duplicate_groups(points, 0.95)
    assert len(np.unique(exact)) < 2600
    assert near_duplicate_groups(points, 0.95, search="faiss").tolist() == exact.tolist()
    few = points[:20]
    assert (near_duplicate_groups(few, search="faiss") == near_duplicate_groups(few)).all()


def test_many_copies_of_one_row_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samacli.pruning.duplicates._PAIRS_AT_ONCE", 50)
    points = np.repeat(clusters(3, 8, seed=0, copies=0), 40, axis=0)
    found = near_duplicate_groups(points, 1.0, block=16)
    assert found.tolist() == np.repeat([0, 1, 2], 40).tolist()


def test_rows_without_a_direction_are_copies_of_none() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    assert near_duplicate_groups(points).tolist() == [0, 1, 2, 1]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(SamaError, match=r"above 0 and up to 1, not 1\.5"):
        near_duplicate_groups(np.ones((2, 2)), 1.5)
    with pytest.raises(SamaError, match=r"row 1 \(counted from 0\) is not finite"):
        near_duplicate_groups(np.array([[1.0, 0.0], [np.nan, 1.0]]))
