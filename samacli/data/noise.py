"""Damage done on purpose: label noise and class imbalance. Pure functions of arrays and a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def symmetric(labels: np.ndarray, classes: int, rate: float, seed: int) -> np.ndarray:
    """Give round(rate · n) of the n labelled rows a wrong label, drawn evenly from the others.

    labels: int64 (n,), −1 for none (left alone). Returns a new array. The number of wrong labels
    is exact, not expected: `rate` is the fraction that is wrong.
    """
    generator = np.random.default_rng(seed)
    noisy = labels.copy()
    labelled = np.flatnonzero(labels >= 0)
    hit = generator.choice(labelled, size=round(rate * labelled.size), replace=False)
    noisy[hit] = (labels[hit] + generator.integers(1, classes, size=hit.size)) % classes
    return noisy


def next_class(classes: int) -> dict[int, int]:
    """The default confusion: each class with the next in order, the last with the first."""
    return {source: (source + 1) % classes for source in range(classes)}


def class_conditional(
    labels: np.ndarray, transition: Mapping[int, int], rate: float, seed: int
) -> np.ndarray:
    """Give round(rate · n_c) of the n_c rows of each class c the label `transition[c]`.

    labels: int64 (n,), −1 for none. Classes that `transition` does not name keep their labels.
    Returns a new array.
    """
    generator = np.random.default_rng(seed)
    noisy = labels.copy()
    for source in sorted(transition):
        rows = np.flatnonzero(labels == source)
        hit = generator.choice(rows, size=round(rate * rows.size), replace=False)
        noisy[hit] = transition[source]
    return noisy


def imbalance(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """The rows to keep, ascending, so that the largest class has `ratio` times the smallest's.

    Class k of K keeps N · ratio^(−k/(K−1)) rows, at least one, with the largest N for which every
    class has enough: an exponential profile over the class order (Cui et al. 2019). Classes
    without a row take no place in the order. Rows without a label (−1) are kept.
    """
    generator = np.random.default_rng(seed)
    present = np.unique(labels[labels >= 0])
    counts = np.array([np.count_nonzero(labels == label) for label in present])
    profile = ratio ** -(np.arange(present.size) / max(1, present.size - 1))
    sizes = np.maximum(1, np.floor((counts / profile).min() * profile + 1e-9)).astype(np.int64)
    kept = [np.flatnonzero(labels < 0)]
    for label, size in zip(present, sizes, strict=True):
        kept.append(generator.choice(np.flatnonzero(labels == label), size=size, replace=False))
    return np.sort(np.concatenate(kept))
