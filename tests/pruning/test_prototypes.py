"""Distances to prototypes against scikit-learn's own k-means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from samacli.pruning.scores import Prototypes


def test_distances_are_those_to_the_k_means_of_well_separated_groups() -> None:
    features, _ = make_blobs(600, 6, centers=4, cluster_std=0.5, random_state=0)
    features = features.astype(np.float32) + 30  # far from 0: no digits may be lost
    reference = KMeans(4, n_init=5, random_state=0).fit(features).transform(features).min(1)
    score = Prototypes(600, prototypes=4, seed=0)
    score.fit(features)
    found = score.distances(torch.from_numpy(features)).numpy()
    score.take(np.arange(600), found)
    np.testing.assert_array_equal(score.result(), found.astype(np.float64))
    # a mini-batch centroid is off the mean of its group by little beside the group's width
    assert np.abs(found - reference).mean() < 0.1 * reference.mean()
    assert np.corrcoef(found, reference)[0, 1] > 0.97


def test_distances_are_exact_for_given_centroids() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(50, 3)).astype(np.float32)
    score = Prototypes(50, prototypes=5, seed=0)
    score.fit(features)
    assert score._centroids is not None
    centroids = score._centroids
    expected = np.linalg.norm(features[:, None] - centroids[None], axis=-1).min(1)
    found = score.distances(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_rows_without_a_distance_have_no_score() -> None:
    score = Prototypes(3, prototypes=2, seed=0)
    score.take(np.array([2]), np.array([1.5]))
    np.testing.assert_array_equal(score.result(), [np.nan, np.nan, 1.5])


def test_fewer_rows_than_prototypes_are_their_own() -> None:
    features = np.eye(3, dtype=np.float32)
    score = Prototypes(3, prototypes=10, seed=0)
    score.fit(features)
    np.testing.assert_allclose(score.distances(torch.from_numpy(features)), 0, atol=1e-6)


def test_distances_before_the_centroids_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="call fit first"):
        Prototypes(3, prototypes=2, seed=0).distances(torch.zeros(3, 2))
