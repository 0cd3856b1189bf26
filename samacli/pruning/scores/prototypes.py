"""SSP: the distance to the nearest prototype of the data, found by k-means on features."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from samacli.pruning.scores.score import Observation


class Prototypes:
    """min_k ‖h(x) − c_k‖₂ over k-means centroids c_k of the features; the largest are kept.

    Sorscher et al.: "Beyond neural scaling laws: beating power law scaling via data pruning"
    (NeurIPS 2022), section 6. The paper embeds by a self-supervised network (SwAV) and finds k to
    matter little around the number of classes; here h is what the last linear layer of the trained
    classifier is given. Takes no labels.

    It does not look on while the model trains: `fit` the centroids to features of a sample, then
    `take` the distances of all rows. A number an example.

    Args:
        prototypes: k.
    """

    needs_features: ClassVar[bool] = False

    def __init__(self, examples: int, *, prototypes: int, seed: int) -> None:
        self._prototypes, self._seed = prototypes, seed
        self._centroids: Tensor | None = None
        self._distances = np.full(examples, np.nan)

    def observe(self, seen: Observation) -> None:
        """Nothing: features are those of the trained model."""

    def fit(self, features: np.ndarray) -> None:
        """Find the centroids of a sample's features (m, f), by mini-batch k-means."""
        clusters = MiniBatchKMeans(
            min(self._prototypes, len(features)), random_state=self._seed, n_init=3
        ).fit(features)
        self._centroids = torch.from_numpy(clusters.cluster_centers_).float()

    def distances(self, features: Tensor) -> Tensor:
        """To the nearest centroid (b,), of features (b, f) on any device."""
        if self._centroids is None:
            raise ValueError("no centroids: call fit first")
        self._centroids = self._centroids.to(features.device)
        # Products would cancel: h may be far from 0 and close to its centroid.
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(features.float(), self._centroids, compute_mode=exact).amin(1)

    def take(self, rows: np.ndarray, distances: np.ndarray) -> None:
        """Keep the distances (b,) of `rows` (b,)."""
        self._distances[rows] = distances

    def result(self) -> np.ndarray:
        return self._distances.copy()
