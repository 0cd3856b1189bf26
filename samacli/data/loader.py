"""Batches in a reproducible order.

The order of an epoch is a function of (seed, epoch) alone, so (seed, epoch, batch number) is all
that it takes to go on where a run stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from samacli.data.encode import Encoded
from samacli.errors import SamaError

_BUCKET_BATCHES = 50  # rows shuffled together before they are sorted by length


class BatchSampler:
    """Yields lists of row numbers.

    shuffle with lengths: rows are shuffled, cut into pools of 50 batches, each pool sorted by
    length and cut into batches, and the batches shuffled: padding is low, order is random.
    No shuffle with lengths: longest first, so that a batch too large for the memory shows at once;
    the caller restores the order through `index`. Without lengths: shuffled, or as they are.
    class_balanced: every batch has as many rows of each class, to within one; rows of a small
    class come again. Rows without a label (−1) are then left out.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        drop_last: bool = False,
        lengths: np.ndarray | None = None,
        balance: np.ndarray | None = None,
        replica: int = 0,
        replicas: int = 1,
    ) -> None:
        """lengths: int (rows,), or None. balance: labels int (rows,) to balance by, or None.

        Of several replicas, each gets other batches of one epoch, and all the same number: what
        does not go round is left out (another part every epoch).
        """
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        # A split smaller than a batch would otherwise give none at all.
        self.drop_last = drop_last and rows >= batch_size
        self.epoch = 0
        self.start = 0
        self._lengths = lengths
        self._balance = balance
        self._replica, self._replicas = replica, replicas

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to an epoch, and within it to a batch: the next iteration starts there (once)."""
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Batches in a whole epoch, of this replica."""
        return self._all // self._replicas

    @property
    def _all(self) -> int:
        """Batches in a whole epoch, of all replicas."""
        if self.drop_last:
            return self.rows // self.batch_size
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        own = self._batches()[self._replica :: self._replicas][: len(self)]
        for batch in own[start:]:
            yield batch.tolist()

    def _batches(self) -> list[np.ndarray]:
        generator = np.random.default_rng([self.seed, self.epoch])
        if self._balance is not None:
            return self._balanced(generator)
        if not self.shuffle:
            order = np.arange(self.rows)
            if self._lengths is not None:
                order = np.argsort(-self._lengths, kind="stable")
            return self._cut(order)
        order = generator.permutation(self.rows)
        if self._lengths is None:
            return self._cut(order)
        pool = self.batch_size * _BUCKET_BATCHES
        # What drop_last leaves out must be random rows, not the shortest ones.
        order = order[: self._all * self.batch_size]
        batches: list[np.ndarray] = []
        for first in range(0, len(order), pool):
            rows = order[first : first + pool]
            rows = rows[np.argsort(-self._lengths[rows], kind="stable")]
            batches += self._cut(rows)
        return [batches[i] for i in generator.permutation(len(batches))]

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        batches = [
            order[first : first + self.batch_size]
            for first in range(0, len(order), self.batch_size)
        ]
        if self.drop_last and batches and len(batches[-1]) < self.batch_size:
            batches.pop()
        return batches

    def _balanced(self, generator: np.random.Generator) -> list[np.ndarray]:
        assert self._balance is not None
        classes = np.unique(self._balance[self._balance >= 0])
        total = self._all * self.batch_size
        rounds = -(-total // classes.size)
        turns = np.empty((rounds, classes.size), dtype=np.int64)
        for place, label in enumerate(classes):
            members = np.flatnonzero(self._balance == label)
            repeats = -(-rounds // members.size)
            turns[:, place] = np.concatenate(
                [generator.permutation(members) for _ in range(repeats)]
            )[:rounds]
        turns = generator.permuted(turns, axis=1)  # which class comes first differs by round
        return self._cut(turns.reshape(-1)[:total])


class Loader(DataLoader[dict[str, Tensor]]):
    """A torch DataLoader over whole batches, each finished after it has come from its worker.

    Raises what a worker raises as SamaError, without the worker's traceback around its sentence.
    """

    def __init__(self, encoded: Encoded, device: torch.device | None, **settings: Any) -> None:
        self._finish: Callable[..., dict[str, Tensor]] | None = getattr(encoded, "finish", None)
        self._device = device
        # reads `__getitems__`, not its own base class
        dataset: Any = _Told(encoded)
        super().__init__(dataset, collate_fn=_as_it_is, persistent_workers=False, **settings)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        # Made at once: torch draws the seed of an iterator's workers when it is made.
        return self._finished(super().__iter__())

    def _finished(self, batches: Iterator[Any]) -> Iterator[dict[str, Tensor]]:
        for batch in batches:
            if isinstance(batch, SamaError):
                raise batch
            yield batch if self._finish is None else self._finish(batch, self._device)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to an epoch, and to a batch of it (once): another order, and other random crops."""
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch, start)
        # Workers start anew with every epoch, so they see it.
        told: Any = self.dataset
        if hasattr(told.encoded, "set_epoch"):
            told.encoded.set_epoch(epoch)


class _Told:
    """A split whose errors are answers: torch would wrap a worker's in a traceback."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitems__(self, rows: Sequence[int]) -> Any:
        try:
            return self.encoded.__getitems__(rows)
        except SamaError as error:
            return error


def make_loader(
    encoded: Encoded,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    drop_last: bool = False,
    num_workers: int = 0,
    device: torch.device | None = None,
    class_balanced: bool = False,
    replica: int = 0,
    replicas: int = 1,
) -> Loader:
    """A torch DataLoader over whole batches; `loader.batch_sampler` is a BatchSampler.

    device: where images are normalised, and stay; None: where they come from. Set the epoch with
    `loader.set_epoch(n)`, or let `cycle` do it.
    """
    sampler = BatchSampler(
        len(encoded),
        batch_size,
        shuffle=shuffle,
        seed=seed,
        drop_last=drop_last,
        lengths=encoded.lengths,
        balance=encoded.labels if class_balanced else None,
        replica=replica,
        replicas=replicas,
    )
    return Loader(
        encoded,
        device,
        batch_sampler=sampler,
        num_workers=num_workers,
        pin_memory=num_workers > 0 and device is not None and device.type == "cuda",
    )


def decoding_workers(encoded: Encoded, asked: int | None) -> int:
    """Worker processes for a split, in each training process; see `data.workers`.

    None for a split that is held, or text. Processes of one launch share this machine's cores.
    """
    if getattr(encoded, "in_memory", True):
        return 0
    if asked is not None:
        return asked
    usable = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(usable(0)) if usable is not None else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's
    return min(max(cores // processes - 1, 1), 8)


def _as_it_is(batch: Any) -> Any:
    """`__getitems__` has collated already."""
    return batch


class Cycle:
    """An endless iterator over a loader, epoch after epoch, that knows where it is.

    (seed of the loader, `epoch`, `batch`) names the next batch: `cycle(loader, epoch=…, batch=…)`
    goes on there. Counted by what was handed out, so loader workers that read ahead don't matter.
    """

    def __init__(self, loader: Loader, epoch: int, batch: int) -> None:
        self.loader = loader
        self.epoch = epoch
        self.batch = batch
        self._batches: Iterator[dict[str, Tensor]] | None = None

    def __iter__(self) -> Cycle:
        return self

    def __next__(self) -> dict[str, Tensor]:
        if self.batch >= len(self.loader):
            self.epoch, self.batch, self._batches = self.epoch + 1, 0, None
        if self._batches is None:
            self._batches = self._open()
        batch = next(self._batches)
        self.batch += 1
        return batch

    def _open(self) -> Iterator[dict[str, Tensor]]:
        self.loader.set_epoch(self.epoch, self.batch)
        return iter(self.loader)

    def state_dict(self) -> dict[str, int]:
        """`{"epoch": …, "batch": …}`, the arguments that make `cycle` go on from here."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position that `state_dict` gave.

        In the middle of an epoch its iterator is made at once: that draws a number from the global
        random state, which the caller sets back afterwards.
        """
        self.epoch, self.batch = state["epoch"], state["batch"]
        inside = 0 < self.batch < len(self.loader)
        self._batches = self._open() if inside else None


def cycle(loader: Loader, *, epoch: int = 0, batch: int = 0) -> Cycle:
    """Batches without end, the order of every epoch its own; starting at a position."""
    return Cycle(loader, epoch, batch)
