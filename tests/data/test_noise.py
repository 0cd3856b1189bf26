"""Injected damage has exactly the rate and shape that it is said to have."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samacli.data import carve, noise

labels_of = st.lists(st.integers(-1, 4), min_size=5, max_size=200).map(np.array)
rates = st.floats(0, 0.95)
seeds = st.integers(0, 2**32 - 1)


@given(labels_of, rates, seeds)
def test_symmetric_makes_exactly_the_rate_wrong(labels, rate, seed):
    noisy = noise.symmetric(labels, 5, rate, seed)
    assert (noisy != labels).sum() == round(rate * (labels >= 0).sum())
    assert np.array_equal(noisy < 0, labels < 0)
    assert noisy.max(initial=0) < 5


def test_symmetric_is_even_over_the_other_classes():
    labels = np.full(30_000, 2)
    counts = np.bincount(noise.symmetric(labels, 4, 0.6, 0), minlength=4)
    assert counts[2] == 12_000
    assert np.all(np.abs(counts[[0, 1, 3]] - 6_000) < 300)


@given(labels_of, rates, seeds)
def test_class_conditional_follows_the_transition(labels, rate, seed):
    noisy = noise.class_conditional(labels, {0: 1, 1: 0, 3: 2}, rate, seed)
    for source, target in ((0, 1), (1, 0), (3, 2)):
        of_class = labels == source
        assert (noisy[of_class] == target).sum() == round(rate * of_class.sum())
    for untouched in (-1, 2, 4):
        assert np.all(noisy[labels == untouched] == untouched)


def test_next_class_wraps_around():
    assert noise.next_class(3) == {0: 1, 1: 2, 2: 0}


@given(seeds)
def test_a_seed_repeats_itself(seed):
    labels = np.arange(100) % 5
    first = noise.symmetric(labels, 5, 0.4, seed)
    assert np.array_equal(first, noise.symmetric(labels, 5, 0.4, seed))
    other = noise.symmetric(labels, 5, 0.4, seed ^ 1)
    assert not np.array_equal(first, other)


def test_imbalance_is_an_exponential_profile():
    labels = np.repeat(np.arange(5), 1000)
    counts = np.bincount(labels[noise.imbalance(labels, 100, 0)])
    assert counts.tolist() == [1000, 316, 100, 31, 10]


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.floats(1, 50), seeds)
def test_imbalance_takes_no_more_than_there_is(sizes, ratio, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    kept = noise.imbalance(labels, ratio, seed)
    counts = np.bincount(labels[kept], minlength=len(sizes))
    assert np.all(np.diff(kept) > 0)
    assert np.all(counts >= 1)
    assert np.all(counts <= sizes)
    assert np.all(np.diff(counts) <= 0)


def test_imbalance_keeps_unlabelled_rows():
    labels = np.array([-1, 0, 1, -1, 0, 1])
    kept = noise.imbalance(labels, 2, 0)
    assert {0, 3} <= set(kept.tolist())


@given(labels_of, st.integers(1, 20), seeds)
def test_per_class(labels, count, seed):
    chosen = carve.per_class(labels, count, seed)
    assert np.all(np.diff(chosen) > 0)
    for label in range(5):
        assert (labels[chosen] == label).sum() == min(count, (labels == label).sum())
    assert not np.any(labels[chosen] < 0)


@given(labels_of, st.floats(0.05, 0.95), seeds)
def test_stratified(labels, fraction, seed):
    free = np.ones(len(labels), dtype=bool)
    free[::3] = False
    chosen = carve.stratified(labels, free, fraction, seed)
    assert np.all(free[chosen])
    for label in range(5):
        count = int((labels == label).sum())
        wanted = min(max(round(fraction * count), 1), max(count - 1, 0))
        assert (labels[chosen] == label).sum() == min(wanted, (free & (labels == label)).sum())


@given(st.integers(1, 100), st.integers(1, 150), seeds)
def test_subset(rows, count, seed):
    chosen = carve.subset(rows, count, seed)
    assert len(chosen) == min(rows, count)
    assert np.all(np.diff(chosen) > 0)
