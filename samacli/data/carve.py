"""Choosing rows: so many a class, a fraction, a subset, halves. Functions of arrays and a seed."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Stream = Literal["test", "meta", "imbalance", "subset", "noise", "test-subset"]


def stream_seed(seed: int, stream: Stream) -> int:
    """A seed for one use, so that turning one option on does not change what another draws."""
    number = get_args(Stream).index(stream)
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def per_class(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Up to `count` rows of every class, drawn evenly; positions, ascending.

    labels: int64 (n,); rows with −1 are never chosen. A class with fewer rows gives all it has.
    """
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:count]
        for label in np.unique(labels[labels >= 0])
    ]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen]))


def stratified(labels: np.ndarray, free: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """About `fraction` of the labelled rows of every class; positions, ascending.

    labels: int64 (n,); free: bool (n,), which rows may be chosen. Each class of n rows gives
    round(fraction · n), as far as it has free ones, but keeps one at least, and a class of two or
    more gives one at least.
    """
    generator = np.random.default_rng(seed)
    chosen = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels[labels >= 0]):
        of_class = labels == label
        count = int(of_class.sum())
        rows = np.flatnonzero(of_class & free)
        size = min(max(round(fraction * count), 1), count - 1, rows.size)
        chosen.append(generator.choice(rows, size=size, replace=False))
    return np.sort(np.concatenate(chosen))


def subset_of(rows: np.ndarray, left: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the rows that are `left` of `rows`, drawn evenly, ascending.

    Nearly those that `subset` draws from all of `rows`: the ones that are gone are replaced, so
    that taking some clean rows away does not make another data set of the subset. rows, left:
    int64, distinct and ascending.
    """
    first = rows[subset(len(rows), count, seed)]
    kept = np.intersect1d(first, left, assume_unique=True)
    others = np.setdiff1d(left, kept, assume_unique=True)
    missing = subset(len(others), min(count, len(left)) - len(kept), seed + 1)
    return np.union1d(kept, others[missing])


def subset(rows: int, count: int, seed: int) -> np.ndarray:
    """`count` of `rows` positions, drawn evenly, ascending; all of them if there are no more."""
    if count >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, size=count, replace=False))


def halves(
    labels: np.ndarray, seed: int, *, at_most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sets of rows, ascending, that share each class evenly.

    labels: int (n,). Of a class with an odd number of rows the second set has one more, so that a
    class of one row is in the second. at_most: rows of a class in the second set; the first has
    the others.
    """
    generator = np.random.default_rng([seed, 0x5A11])
    first: list[np.ndarray] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        second = -(-members.size // 2)
        first.append(members[min(second, at_most or second) :])
    chosen = np.sort(np.concatenate(first)) if first else np.empty(0, np.int64)
    return chosen, np.setdiff1d(np.arange(labels.size), chosen)
