"""What reading data gives: one split, and all splits of a dataset with the classes they share.

Two splits can be joined, and what is equal of two readings has equal fingerprints.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import datasets
import numpy as np
import pyarrow as pa

from samacli.data.table import quiet_datasets
from samacli.recipe.schema import Columns, Task


@dataclass
class Split:
    """One split, n rows.

    rows: every input column, in input order, memory-mapped where the source is. labels: int64
    (n,), the given label, −1 for none. true_labels: int64 (n,) with the same ids, or None; for
    measuring only. index: int64 (n,), each row's position in the split as read. content: uint64
    (n,), equal for rows with the same text or image. origin: where it came from, for messages.
    given_labels: int64 (n,) of a clean split (meta, validation, test), whose `labels` are the
    truth: the label that its rows were given as the training rows were, −1 for none; None for a
    training split, where there is one label column only, and where noise was injected.
    votes: int64 (n, functions), the labelling functions' votes as class ids, −1 for an abstention;
    None where the source is not WRENCH.
    """

    name: str
    rows: datasets.Dataset
    labels: np.ndarray
    true_labels: np.ndarray | None
    index: np.ndarray
    content: np.ndarray
    origin: str
    given_labels: np.ndarray | None = None
    votes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: np.ndarray) -> Split:
        """Some of the rows, by their positions in this split, ascending."""

        def of(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        return Split(
            name=self.name,
            rows=self.rows.select(rows),
            labels=self.labels[rows],
            true_labels=of(self.true_labels),
            index=self.index[rows],
            content=self.content[rows],
            origin=self.origin,
            given_labels=of(self.given_labels),
            votes=of(self.votes),
        )

    def twins_in(self, other: Split) -> np.ndarray:
        """Of each row the first row of `other` with the same text or image: its position there,
        int64 (n,), −1 for none."""
        content, first = np.unique(other.content, return_index=True)
        place = np.searchsorted(content, self.content).clip(max=len(content) - 1)
        return np.where(content[place] == self.content, first[place], -1)

    def class_rows(self, classes: Sequence[str]) -> dict[str, int]:
        """How many rows have each class as their given label, by name."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(classes))
        return dict(zip(classes, counts.tolist(), strict=True))


@dataclass
class Splits:
    """All splits of one dataset, with the classes they share.

    columns: as configured, with `true_label` filled in where the source or injected noise brings
    one. notes: plain facts about what was done; warnings: what the user should think about.
    """

    task: Task
    columns: Columns
    classes: list[str]
    train: Split
    meta: Split | None = None
    validation: Split | None = None
    test: Split | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @functools.cached_property
    def clean_twins(self) -> np.ndarray:
        """Of each training row the clean (meta) row with the same text or image; int64 (n,), −1 for
        none. A row that has one is known: it is no noisy row."""
        if self.meta is None:
            return np.full(len(self.train), -1)
        return self.train.twins_in(self.meta)

    @functools.cached_property
    def told_of_clean(self) -> tuple[np.ndarray, np.ndarray]:
        """What clean rows were labelled with (p,), and the row of each (p,), int64.

        By a column of theirs; of a clean row that does not say, by each of its training copies.
        """
        if self.meta is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        given, twins, rows = self.train.labels, self.clean_twins, np.arange(len(self.meta))
        told = self.meta.given_labels
        told = np.full(len(self.meta), -1) if told is None else told
        silent = np.flatnonzero((twins >= 0) & (given >= 0) & (told[twins] < 0))
        told = np.concatenate([told, given[silent]])
        rows = np.concatenate([rows, twins[silent]])
        return told[told >= 0], rows[told >= 0]

    @functools.cached_property
    def overlaps(self) -> dict[str, dict[str, int]]:
        """Rows that two splits share, by "meta, train" and the like: how many each of both has."""
        names = ("validation", "test", "meta", "train")
        there = {name: split for name in names if (split := getattr(self, name)) is not None}
        found = {}
        for (name, split), (other_name, other) in itertools.combinations(there.items(), 2):
            shared = int((split.twins_in(other) >= 0).sum())
            if shared:
                theirs = int((other.twins_in(split) >= 0).sum())
                found[f"{name}, {other_name}"] = {name: shared, other_name: theirs}
        return found

    @property
    def noisy_rows(self) -> np.ndarray | None:
        """Training rows whose label nobody has checked, ascending; None for all of them."""
        unknown = self.clean_twins < 0
        return None if unknown.all() else np.flatnonzero(unknown)


def join(first: Split, second: Split, columns: Columns, task: Task) -> Split:
    """The rows of `first`, then those of `second`; only the columns that a model reads.

    `index` counts on: a row of `second` is its position plus the number of rows of `first`. True
    labels, given labels beside the truth, and votes are left out.
    """
    if task == "text-classification":
        names = [name for name in (columns.text, columns.text_pair) if name is not None]
    else:
        names = [columns.image]
    left, right = first.rows.select_columns(names), second.rows.select_columns(names)
    with quiet_datasets():
        rows = datasets.concatenate_datasets([left, right.cast(left.features)])
    return _followed(first, second, rows)


def _followed(first: Split, second: Split, rows: datasets.Dataset) -> Split:
    """Both splits' rows, as `rows` has them. Of labels only `labels`, and no votes."""
    return Split(
        name=f"{first.name}+{second.name}",
        rows=rows,
        labels=np.concatenate([first.labels, second.labels]),
        true_labels=None,
        index=np.arange(len(first) + len(second)),
        content=np.concatenate([first.content, second.content]),
        origin=f"{first.origin} and {second.origin}",
    )


def stacked(first: Split, second: Split) -> Split:
    """The rows of two files of one clean split, those of `first` before those of `second`.

    rows: the columns of both, null where a file lacks one; of a column whose values are of another
    kind in `second`, only those of `first`. `index` counts on. Without votes.
    """
    right = second.rows
    for name in right.column_names:
        if first.rows.features.get(name, right.features[name]) != right.features[name]:
            try:
                with quiet_datasets():
                    right = right.cast_column(name, first.rows.features[name])
            except (pa.ArrowException, ValueError, TypeError):
                right = right.remove_columns(name)
    with quiet_datasets():
        rows = datasets.concatenate_datasets([first.rows, right])
    given = None
    if first.given_labels is not None or second.given_labels is not None:
        none = (np.full(len(split), -1, dtype=np.int64) for split in (first, second))
        known = (first.given_labels, second.given_labels)
        given = np.concatenate([n if k is None else k for n, k in zip(none, known, strict=True)])
    return replace(_followed(first, second, rows), name=first.name, given_labels=given)


def fingerprints(splits: Splits) -> dict[str, str]:
    """Of each split there is, by name: equal for the same rows in the same order with the same
    labels of the same classes, whatever file they came from."""
    found = {name: getattr(splits, name) for name in ("train", "meta", "validation", "test")}
    return {
        name: _fingerprint(split, splits.classes)
        for name, split in found.items()
        if split is not None
    }


def fingerprint_of(values: np.ndarray) -> str:
    """Of an array: 32 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


def _fingerprint(split: Split, classes: list[str]) -> str:
    digest = hashlib.blake2b(repr(classes).encode(), digest_size=16)
    for values in (
        split.content,
        split.labels,
        split.true_labels,
        split.given_labels,
        split.votes,
    ):
        digest.update(b"-" if values is None else fingerprint_of(values).encode())
    return digest.hexdigest()
