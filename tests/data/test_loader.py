"""The order of batches: reproducible, complete, low in padding, balanced when asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samacli.data import BatchSampler, cycle, make_loader


class Rows:
    """Stands for an encoded split: a batch is its row numbers."""

    truncated = 0

    def __init__(self, labels, lengths=None):
        self.labels = np.asarray(labels)
        self.lengths = None if lengths is None else np.asarray(lengths)

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, rows):
        return {"index": torch.tensor(rows)}


def batches(loader):
    return [batch["index"].tolist() for batch in loader]


sizes = st.integers(1, 400)


@given(sizes, st.integers(1, 64), st.booleans(), st.booleans(), st.integers(0, 99))
def test_every_row_once(rows, batch_size, shuffle, with_lengths, seed):
    lengths = np.random.default_rng(seed).integers(1, 100, rows) if with_lengths else None
    sampler = BatchSampler(rows, batch_size, shuffle=shuffle, seed=seed, lengths=lengths)
    found = list(sampler)
    assert sorted(itertools.chain(*found)) == list(range(rows))
    assert len(found) == len(sampler)
    assert sum(len(batch) < batch_size for batch in found) <= 1


@given(sizes, st.integers(1, 64), st.booleans(), st.integers(0, 99))
def test_drop_last(rows, batch_size, with_lengths, seed):
    lengths = np.arange(rows) if with_lengths else None
    sampler = BatchSampler(
        rows, batch_size, shuffle=True, seed=seed, lengths=lengths, drop_last=True
    )
    found = list(sampler)
    assert len(found) == len(sampler) == max(1, rows // batch_size)
    assert {len(batch) for batch in found} == {min(batch_size, rows)}


def test_what_drop_last_leaves_out_is_random():
    left_out = set()
    sampler = BatchSampler(100, 33, shuffle=True, seed=0, lengths=np.arange(100), drop_last=True)
    for epoch in range(40):
        sampler.set_epoch(epoch)
        left_out |= set(range(100)) - set(itertools.chain(*sampler))
    assert len(left_out) > 20


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch, lengths=None):
        sampler = BatchSampler(200, 8, shuffle=True, seed=seed, lengths=lengths)
        sampler.set_epoch(epoch)
        return list(sampler)

    for lengths in (None, np.arange(200) % 13):
        assert order(0, 0, lengths) == order(0, 0, lengths)
        assert order(0, 0, lengths) != order(0, 1, lengths)
        assert order(0, 0, lengths) != order(1, 0, lengths)
        assert order(0, 1, lengths) != order(1, 0, lengths)


def test_buckets_save_padding_but_stay_random():
    lengths = np.random.default_rng(0).integers(5, 128, 6400)

    def padded(found):
        return sum(len(batch) * lengths[batch].max() for batch in found)

    bucketed = list(BatchSampler(6400, 32, shuffle=True, seed=0, lengths=lengths))
    plain = list(BatchSampler(6400, 32, shuffle=True, seed=0))
    assert padded(bucketed) < 1.05 * lengths.sum() < 1.5 * lengths.sum() < padded(plain)
    means = [lengths[batch].mean() for batch in bucketed]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25


def test_evaluation_goes_from_long_to_short():
    lengths = np.random.default_rng(0).integers(5, 128, 100)
    found = list(BatchSampler(100, 8, shuffle=False, seed=0, lengths=lengths))
    flat = list(itertools.chain(*found))
    assert np.all(np.diff(lengths[flat]) <= 0)
    assert list(BatchSampler(5, 2, shuffle=False, seed=0)) == [[0, 1], [2, 3], [4]]


@given(st.lists(st.integers(-1, 3), min_size=8, max_size=80), st.integers(1, 20), st.integers(0, 9))
def test_balanced_batches(labels, batch_size, seed):
    labels = np.array([0, *labels])
    sampler = BatchSampler(len(labels), batch_size, shuffle=True, seed=seed, balance=labels)
    found = list(sampler)
    assert len(found) == len(sampler)
    classes = np.unique(labels[labels >= 0])
    for batch in found:
        assert len(batch) == batch_size
    seen = labels[list(itertools.chain(*found))]
    counts = np.array([(seen == label).sum() for label in classes])
    assert counts.sum() == len(seen)
    assert np.ptp(counts) <= 1


def test_each_batch_is_balanced():
    labels = np.repeat([0, 1, 2], [50, 10, 3])
    for batch in BatchSampler(63, 12, shuffle=True, seed=0, balance=labels):
        assert np.bincount(labels[batch]).tolist() == [4, 4, 4]


def test_all_rows_of_a_class_come_before_one_comes_again():
    labels = np.repeat([0, 1], [6, 2])
    flat = list(itertools.chain(*BatchSampler(8, 4, shuffle=True, seed=1, balance=labels)))
    of_first = [row for row in flat if labels[row] == 0]
    assert len(set(of_first)) == len(of_first) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_hands_out_whole_batches(workers):
    data = Rows(np.zeros(50), np.arange(50))
    loader = make_loader(data, 8, shuffle=True, seed=0, num_workers=workers)
    expected = list(BatchSampler(50, 8, shuffle=True, seed=0, lengths=np.arange(50)))
    assert batches(loader) == expected
    assert len(loader) == 7


def test_class_balanced_loader():
    data = Rows(np.repeat([0, 1], [40, 8]))
    loader = make_loader(data, 8, shuffle=True, seed=0, class_balanced=True)
    assert all(data.labels[batch].sum() == 4 for batch in batches(loader))


def test_cycle_goes_through_epochs():
    loader = make_loader(Rows(np.zeros(20)), 8, shuffle=True, seed=5)
    endless = cycle(loader)
    found = [next(endless)["index"].tolist() for _ in range(9)]
    assert endless.state_dict() == {"epoch": 2, "batch": 3}
    for epoch in range(3):
        sampler = BatchSampler(20, 8, shuffle=True, seed=5)
        sampler.set_epoch(epoch)
        assert found[3 * epoch : 3 * epoch + 3] == list(sampler)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 2, 3, 4, 7])
def test_cycle_goes_on_where_it_stopped(stop, workers):
    def loader():
        data = Rows(np.zeros(20), np.arange(20))
        return make_loader(data, 8, shuffle=True, seed=5, num_workers=workers)

    whole = cycle(loader())
    found = [next(whole)["index"].tolist() for _ in range(12)]
    first = cycle(loader())
    for _ in range(stop):
        next(first)
    rest = cycle(loader(), **first.state_dict())
    assert [next(rest)["index"].tolist() for _ in range(12 - stop)] == found[stop:]
    assert rest.state_dict() == whole.state_dict()


def test_two_cycles_over_one_loader_do_not_disturb_each_other():
    loader = make_loader(Rows(np.zeros(20)), 8, shuffle=True, seed=5)
    first, second = cycle(loader), cycle(loader, epoch=3)
    mixed = [(next(first)["index"].tolist(), next(second)["index"].tolist()) for _ in range(7)]
    alone = cycle(make_loader(Rows(np.zeros(20)), 8, shuffle=True, seed=5))
    assert [pair[0] for pair in mixed] == [next(alone)["index"].tolist() for _ in range(7)]


@pytest.mark.parametrize("lengths", [None, np.arange(103) % 17])
def test_replicas_share_out_an_epoch(lengths: np.ndarray | None) -> None:
    def batches(**options: int) -> list[list[int]]:
        sampler = BatchSampler(
            103, 10, shuffle=True, seed=5, drop_last=True, lengths=lengths, **options
        )
        sampler.set_epoch(2)
        found = list(sampler)
        assert len(found) == len(sampler)
        return found

    alone = batches()
    shares = [batches(replica=r, replicas=3) for r in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    together = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert together == alone[:9]
