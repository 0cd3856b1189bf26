"""A table with its labels and contents checked, from which splits are taken."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import numpy as np

from samacli.data.content import check_inputs, read_content
from samacli.data.labels import (
    NONE,
    as_class_labels,
    as_known,
    check_known,
    class_ids,
    class_order,
    declared_classes,
    folded,
    label_names,
    settle_minus_one,
)
from samacli.data.sheet import is_sheet
from samacli.data.split import Split
from samacli.data.table import Table, check_column
from samacli.errors import SamaError, counted
from samacli.progress import Progress
from samacli.recipe.schema import Columns, Data, Task

# Of rows that `sama review` or `sama label` asked about: the label that each had before, by its
# class's name.
GIVEN_COLUMN = "sama_given"


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset, in order. `declared`: whether a number in a file is an id of them
    (a ClassLabel column says so, or a model's configuration), not a name of its own."""

    names: list[str]
    declared: bool

    @property
    def by_number(self) -> list[str] | None:
        """The names that numbers stand for, if they do."""
        return self.names if self.declared else None


@dataclass
class Pool:
    """Rows of a table, of which `positions` are not yet in any split.

    labels: int64 (rows of the table,), the given label, −1 for none. truth: the same ids, or None
    where there is none to measure with. content: uint64, equal for equal texts or images.
    columns: as configured, with the source's own true-label column. given: of a clean pool, whose
    `labels` are the truth, int64 (rows of the table,), the given labels, −1 for none, or None.
    entered: `positions` before any were taken.
    """

    table: Table
    labels: np.ndarray
    truth: np.ndarray | None
    content: np.ndarray
    positions: np.ndarray
    columns: Columns
    classes: Classes
    given: np.ndarray | None = None
    entered: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.entered = self.positions

    @property
    def trusted(self) -> np.ndarray:
        """What a clean split is labelled by: the truth where there is one, else the given label."""
        return self.labels if self.truth is None else self.truth

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Mark rows as taken."""
        self.positions = np.setdiff1d(self.positions, rows, assume_unique=True)
        return rows

    def free(self) -> np.ndarray:
        """Positions that may leave for a clean split: labelled, with a content that no other has.

        A held-out row whose twin stays in training would not be held out.
        """
        content = self.content[self.positions]
        _, inverse, counts = np.unique(content, return_inverse=True, return_counts=True)
        once = counts[inverse] == 1
        return self.positions[once & (self.trusted[self.positions] != NONE)]

    def votes(self, rows: np.ndarray) -> np.ndarray | None:
        """Votes on the rows at some positions; int64 (n, functions), or None without functions."""
        if self.table.votes is None:
            return None
        # Of all rows first: of none, the number of functions would be lost.
        return np.array(self.table.rows[self.table.votes], dtype=np.int64)[rows]

    def clean_split(self, name: str, rows: np.ndarray) -> Split:
        """The rows at some positions, with their trusted labels."""
        # In the training pool `labels` are the given ones, in a clean one the truth.
        given = self.given if self.truth is None else self.labels
        return Split(
            name=name,
            rows=self.table.rows.select(rows),
            labels=self.trusted[rows],
            true_labels=None,
            index=rows,
            content=self.content[rows],
            origin=self.table.origin,
            given_labels=None if given is None else given[rows],
            votes=self.votes(rows),
        )


def training_pool(
    table: Table, config: Data, task: Task, progress: Progress, clean: Sequence[Table] = ()
) -> tuple[Pool, list[str]]:
    """The training table without its abstentions, and notes on what was dropped.

    clean: the tables of the clean splits, whose labels tell whether −1 is a class.
    """
    table = with_images(table, config.columns, task)
    columns = config.columns
    if columns.true_label is None and table.true_label is not None:
        columns = columns.model_copy(update={"true_label": table.true_label})
    _check_not_empty(table, "training")
    check_inputs(table, columns, task)
    check_column(table, columns.label, "data.columns.label")
    if columns.id is not None:
        check_column(table, columns.id, "data.columns.id")

    true_column = columns.true_label
    if true_column == columns.label or true_column not in table.rows.column_names:
        true_column = None
    declared = declared_classes(
        table, [columns.label] if true_column is None else [columns.label, true_column]
    )
    if declared is not None:
        table.rows = as_class_labels(table.rows, columns.label, declared)
    given = label_names(table, columns.label, declared)
    of_tables = _names_in(clean, [columns.true_label, columns.label], declared)
    trusted = set().union(*of_tables)
    if true_column is not None:
        trusted |= set(label_names(table, true_column, declared)) - {None}
    given = settle_minus_one(given, table, columns.label, config.minus_one, trusted)
    classes = class_order(_with_rare(given, of_tables), declared)
    labels = class_ids(given, classes)
    notes: list[str] = []
    truth = None
    if true_column is not None:
        true = as_known(label_names(table, true_column, declared), table, true_column, classes)
        truth = _truth(true, classes, notes)
    positions = _labelled(labels, table, columns, config.abstain, notes)
    content = np.zeros(len(labels), dtype=np.uint64)
    skip = config.bad_images == "skip"
    found = read_content(table, columns, task, positions, "training", progress, skip=skip)
    content[positions] = found.hashes
    positions = positions[found.readable]
    notes += [] if found.note is None else [found.note]
    known = Classes(classes, declared is not None)
    return Pool(table, labels, truth, content, positions, columns, known), notes


def clean_pool(
    table: Table,
    role: str,
    columns: Columns,
    task: Task,
    classes: Classes,
    known_to: str,
    progress: Progress,
    *,
    skip: bool = False,
) -> tuple[Pool, list[str]]:
    """A meta, validation or test table: every row has a label, and it is one of `classes`.

    Of a sheet that `sama label` wrote, the rows that somebody has labelled.

    known_to: who knows the classes, for the message ("the training split"). skip: leave rows out
    whose image cannot be decoded. With notes on what was left out.
    """
    table = with_images(table, columns, task)
    _check_not_empty(table, role)
    check_inputs(table, columns, task)
    column = columns.label
    true_column = columns.true_label or table.true_label
    if true_column is not None and true_column in table.rows.column_names:
        column = true_column
    check_column(table, column, "data.columns.label")
    given_column = columns.label
    if column == given_column and GIVEN_COLUMN in table.rows.column_names:
        # Labels are classes by their names there, even those that look like ids of other classes.
        given_column, classes = GIVEN_COLUMN, replace(classes, declared=False)
    names = label_names(table, column, classes.by_number)
    names = as_known(names, table, column, classes.names)
    missing = np.flatnonzero([name is None for name in names])
    positions = np.arange(len(names))
    notes: list[str] = []
    if missing.size and is_sheet(table):
        positions, notes = _filled_in(names, table, column)
    elif missing.size:
        raise SamaError(
            f"{missing.size:,} of {counted(len(names), 'row')} of {table.origin} ({role} split) "
            f"{'has' if missing.size == 1 else 'have'} no label in column '{column}', the first "
            f"is row {missing[0]} (counted from 0); label {'it' if missing.size == 1 else 'them'} "
            f"or remove {'it' if missing.size == 1 else 'them'}"
        )
    check_known(names, classes.names, table, column, known_to)
    content = np.zeros(len(names), dtype=np.uint64)
    found = read_content(table, columns, task, positions, role, progress, skip=skip)
    content[positions] = found.hashes
    labels = class_ids(names, classes.names)
    given = None if column == given_column else _given(table, given_column, classes)
    positions = positions[found.readable]
    notes += [] if found.note is None else [found.note]
    return Pool(table, labels, None, content, positions, columns, classes, given), notes


def _filled_in(names: np.ndarray, table: Table, column: str) -> tuple[np.ndarray, list[str]]:
    """Positions of the rows of a sheet that have a label, and a note on the others."""
    positions = np.flatnonzero([name is not None for name in names])
    if not positions.size:
        raise SamaError(
            f"no row of {table.origin} is labelled: write each row's right label into its column "
            f"'{column}', and leave empty what you do not know"
        )
    return positions, [
        f"labelled rows of {table.origin}: {len(positions):,} of {len(names):,}; the others, whose "
        f"column '{column}' is empty, count as not checked"
    ]


def with_images(table: Table, columns: Columns, task: Task) -> Table:
    """The table with its image column as datasets' Image: paths resolved, bytes wrapped."""
    if task != "image-classification" or columns.image not in table.rows.column_names:
        return table
    rows = table.rows
    feature = rows.features[columns.image]
    if isinstance(feature, datasets.Image):
        return table
    kind = getattr(feature, "dtype", None)
    if kind in ("string", "large_string"):
        order, base = rows.column_names, table.base
        paths = [None if path is None else _image_path(path, base) for path in rows[columns.image]]
        rows = rows.remove_columns(columns.image).add_column(columns.image, paths)
        rows = rows.select_columns(order)
    elif kind not in ("binary", "large_binary") and not _is_bytes_and_path(feature):
        return table  # check_inputs refuses it, with its type
    rows = rows.cast_column(columns.image, datasets.Image())
    return replace(table, rows=rows)


def _names_in(
    tables: Sequence[Table], columns: Sequence[str | None], declared: list[str] | None
) -> list[set[str]]:
    """The labels of each clean table, in the first of the columns that it has."""
    found: list[set[str]] = []
    for table in tables:
        column = next((c for c in columns if c in table.rows.column_names), None)
        if column is not None:
            # What is wrong with them is said when they are read.
            with contextlib.suppress(SamaError, UnicodeDecodeError):
                found.append(set(label_names(table, column, declared)) - {None})
    return found


def _with_rare(given: np.ndarray, clean: Sequence[set[str]]) -> np.ndarray:
    """The given names, with those that clean splits alone have: weak rules may miss a rare class.

    Not the names of a split that has no class of the training split, nor one that differs from a
    given name only in how it is written: those are mistakes, and are refused as such.
    """
    known = {name for name in given if name is not None}
    written = {folded(name) for name in known}
    rare = {name for names in clean if names & known for name in names - known}
    rare = {name for name in rare if folded(name) not in written and name != "-1"}
    return np.array([*given, *sorted(rare)], dtype=object)


def _image_path(path: str, base: Path | None) -> str:
    # A URL stays as it is, to be refused by its own name.
    return path if base is None or "://" in path else str(base / path)


def _is_bytes_and_path(feature: object) -> bool:
    return isinstance(feature, dict) and {"bytes", "path"} <= set(feature)


def _truth(names: np.ndarray, classes: list[str], notes: list[str]) -> np.ndarray | None:
    """True labels as ids, −1 for a class that no given label names; None if no row has one."""
    known = np.array([name is not None for name in names], dtype=bool)
    if not known.any():
        return None
    truth = class_ids(names, classes)
    outside = int((known & (truth == NONE)).sum())
    if outside:
        rows = counted(outside, "training row has", "training rows have")
        notes.append(f"{rows} a true label that no given label names")
    return truth


def _given(table: Table, column: str, classes: Classes) -> np.ndarray | None:
    """Given labels of clean rows as ids, −1 for names that are no class; None if there are none."""
    if column not in table.rows.column_names:
        return None
    try:
        names = label_names(table, column, classes.by_number)
    except SamaError:  # nothing is trained on these labels, so they are no reason to refuse rows
        return None
    names = as_known(names, table, column, classes.names)
    return class_ids(names, classes.names)


def _labelled(
    labels: np.ndarray, table: Table, columns: Columns, abstain: str, notes: list[str]
) -> np.ndarray:
    """Positions of the rows to train on."""
    without = int((labels == NONE).sum())
    if without == len(labels):
        raise SamaError(
            f"no row of {table.origin} has a label in column '{columns.label}'; name the label "
            "column with data.columns.label"
        )
    if without:
        done = "dropped" if abstain == "drop" else "kept"
        notes.append(f"{done} {without:,} of {counted(len(labels), 'row')} without a given label")
    return np.flatnonzero(labels != NONE) if abstain == "drop" else np.arange(len(labels))


def _check_not_empty(table: Table, role: str) -> None:
    if len(table.rows) == 0:
        raise SamaError(f"the {role} split ({table.origin}) has no rows")
