"""What reading data gives: one split, and all splits of a dataset with the classes they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import datasets
import numpy as np

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
