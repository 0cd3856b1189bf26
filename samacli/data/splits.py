"""From a recipe's `data:` section to splits: labelled, carved, damaged on purpose, and checked.

In this order: read; bring given labels to class ids; drop abstentions; check and hash the
contents; take test and meta rows out of the training split; imbalance, subset, label noise; look
for rows that occur in two splits. Rows always stay in input order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import datasets
import numpy as np

from samacli.data import carve, noise
from samacli.data.content import check_inputs, content_hashes
from samacli.data.labels import (
    NONE,
    check_known,
    class_ids,
    class_order,
    declared_classes,
    label_names,
)
from samacli.data.relabel import write_labels
from samacli.data.sources import make_opener
from samacli.data.table import Table, check_column, quiet_datasets
from samacli.errors import SamaError, nearest
from samacli.recipe.schema import Columns, Data, Noise, Task

# One seed in the recipe, one independent stream for each use of it.
_STREAMS = ("test", "meta", "imbalance", "subset", "noise")


@dataclass
class Split:
    """One split, n rows.

    rows: every input column, in input order, memory-mapped where the source is. labels: int64
    (n,), the given label, −1 for none. true_labels: int64 (n,) with the same ids, or None; for
    measuring only. index: int64 (n,), each row's position in the split as read. content: uint64
    (n,), equal for rows with the same text or image. origin: where it came from, for messages.
    """

    name: str
    rows: datasets.Dataset
    labels: np.ndarray
    true_labels: np.ndarray | None
    index: np.ndarray
    content: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.labels)


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


def load_splits(config: Data, task: Task) -> Splits:
    """Read, check and split the data that a recipe names.

    Raises SamaError, one sentence naming file, column, row or option and the mend, for anything
    wrong with the data or with what the recipe says about them.
    """
    if config.train is None:
        raise SamaError("data.train names no training split; give a split's name or a file")
    _check_roles(config)
    with quiet_datasets():
        return _load(config, task, config.train)


@dataclass
class _Pool:
    """A table with its labels; `positions` are the rows that no split has taken yet.

    labels, truth: int64 (rows of the table,), truth None where there is none to measure with.
    trusted: the truth where there is one, else the given label: what a clean split is labelled by.
    """

    table: Table
    labels: np.ndarray
    truth: np.ndarray | None
    trusted: np.ndarray
    content: np.ndarray
    positions: np.ndarray

    def take(self, chosen: np.ndarray) -> np.ndarray:
        self.positions = np.setdiff1d(self.positions, chosen, assume_unique=True)
        return chosen

    def split(self, name: str, positions: np.ndarray, labels: np.ndarray) -> Split:
        return Split(
            name=name,
            rows=self.table.rows.select(positions),
            labels=labels[positions],
            true_labels=None,
            index=positions,
            content=self.content[positions],
            origin=self.table.origin,
        )


def _load(config: Data, task: Task, train_name: str) -> Splits:
    open_table = make_opener(config)
    notes: list[str] = []
    table = _with_images(open_table(train_name, "data.train"), config.columns, task)
    columns = _effective_columns(config.columns, table)
    declared = _declared(table, columns)
    train, classes = _training_pool(table, columns, declared, config, task, notes)

    pools = {train_name: train}
    for role in ("validation", "test", "meta"):
        name = getattr(config, role)
        if name is not None and name not in pools:
            other = _with_images(open_table(name, f"data.{role}"), columns, task)
            pools[name] = _clean_pool(other, role, columns, declared, classes, task)

    # Clean rows leave the training split before it is damaged.
    clean: dict[str, Split] = {}
    if config.test == train_name:
        clean["test"] = _held_out_test(train, config, classes, notes)
    if config.meta is not None:
        clean["meta"] = _meta(pools[config.meta], config, train_name, classes, notes)
    for role in ("validation", "test"):
        name = getattr(config, role)
        if name is not None and role not in clean:
            clean[role] = pools[name].split(role, pools[name].positions, pools[name].trusted)

    split, columns = _training_split(train, columns, config, classes, notes)
    splits = Splits(
        task=task,
        columns=columns,
        classes=classes,
        train=split,
        meta=clean.get("meta"),
        validation=clean.get("validation"),
        test=clean.get("test"),
        notes=notes,
    )
    _check_classes(splits)
    _warn(splits)
    return splits


def _training_pool(
    table: Table,
    columns: Columns,
    declared: list[str] | None,
    config: Data,
    task: Task,
    notes: list[str],
) -> tuple[_Pool, list[str]]:
    """The training table, labelled, without abstentions; and the classes, in order."""
    _check_not_empty(table, "training")
    check_inputs(table, columns, task)
    check_column(table, columns.label, "data.columns.label")
    given = label_names(table, columns.label, declared)
    classes = class_order(given, declared)
    labels = class_ids(given, classes)
    truth = None
    true_label = columns.true_label or columns.label
    if true_label in table.rows.column_names and true_label != columns.label:
        true_names = label_names(table, true_label, declared)
        truth = class_ids(true_names, classes)
        unknown = sum(name is not None for name in true_names[truth == NONE])
        if unknown:
            notes.append(f"{unknown:,} training rows have a true label that no given label names")
    positions = _labelled(labels, table, columns, config.abstain, notes)
    content = np.zeros(len(labels), dtype=np.uint64)
    content[positions] = content_hashes(table, columns, task, positions)
    trusted = labels if truth is None else truth
    return _Pool(table, labels, truth, trusted, content, positions), classes


def _clean_pool(
    table: Table,
    role: str,
    columns: Columns,
    declared: list[str] | None,
    classes: list[str],
    task: Task,
) -> _Pool:
    """A meta, validation or test table: every row has a label that the training split knows."""
    _check_not_empty(table, role)
    check_inputs(table, columns, task)
    column = columns.label
    if columns.true_label is not None and columns.true_label in table.rows.column_names:
        column = columns.true_label
    check_column(table, column, "data.columns.label")
    names = label_names(table, column, declared)
    missing = np.flatnonzero([name is None for name in names])
    if missing.size:
        raise SamaError(
            f"{missing.size:,} of {len(names):,} rows of {table.origin} ({role} split) have no "
            f"label in column '{column}', the first is row {missing[0]} (counted from 0); label "
            "them or remove them"
        )
    positions = np.arange(len(names))
    check_known(names, classes, table, column, positions)
    labels = class_ids(names, classes)
    content = content_hashes(table, columns, task, positions)
    return _Pool(table, labels, None, labels, content, positions)


def _held_out_test(train: _Pool, config: Data, classes: list[str], notes: list[str]) -> Split:
    assert config.test_fraction is not None  # the schema asks for it
    free = _free(train)
    chosen = carve.stratified(train.trusted[free], config.test_fraction, _seed(config, "test"))
    rows = train.take(free[chosen])
    notes.append(f"held {len(rows):,} rows out of the training split as test split")
    return train.split("test", rows, train.trusted)


def _meta(
    pool: _Pool, config: Data, train_name: str, classes: list[str], notes: list[str]
) -> Split:
    """The meta split: the whole pool, or so many rows a class out of it."""
    if config.meta_per_class is None:
        return pool.split("meta", pool.positions, pool.trusted)
    free = _free(pool) if config.meta == train_name else pool.positions
    chosen = carve.per_class(pool.trusted[free], config.meta_per_class, _seed(config, "meta"))
    rows = pool.take(free[chosen])
    if config.meta in (train_name, config.test, config.validation):
        _check_enough_left(pool, rows, classes, config)
        notes.append(f"took {len(rows):,} meta rows out of the split '{config.meta}'")
    else:
        notes.append(
            f"took {len(rows):,} of {len(rows) + len(pool.positions):,} rows of "
            f"{pool.table.origin} as meta split; the others are not used"
        )
    for number, name in enumerate(classes):
        count = int((pool.trusted[rows] == number).sum())
        if 0 < count < config.meta_per_class:
            notes.append(
                f"class '{name}' has only {count} meta rows (meta_per_class is "
                f"{config.meta_per_class})"
            )
    return pool.split("meta", rows, pool.trusted)


def _training_split(
    train: _Pool, columns: Columns, config: Data, classes: list[str], notes: list[str]
) -> tuple[Split, Columns]:
    """What is left of the training pool, thinned and damaged as the recipe says."""
    rows = _thin(train.positions, train.labels, config, notes)
    noisy = train.labels.copy()
    noisy[rows] = _noisy(config.noise, train.labels[rows], classes, _seed(config, "noise"))
    truth = train.truth
    if config.noise.kind != "none":
        wrong = int((noisy != train.labels).sum())
        notes.append(
            f"made {wrong:,} of {len(rows):,} training labels wrong "
            f"({config.noise.kind} noise, rate {config.noise.rate:g})"
        )
        truth = train.labels if truth is None else truth
        train.table.rows, columns = write_labels(
            train.table.rows, columns, noisy, train.labels, classes
        )
    split = train.split("train", rows, noisy)
    split.true_labels = None if truth is None else truth[rows]
    return split, columns


def _thin(positions: np.ndarray, labels: np.ndarray, config: Data, notes: list[str]) -> np.ndarray:
    if config.noise.imbalance > 1:
        kept = noise.imbalance(
            labels[positions], config.noise.imbalance, _seed(config, "imbalance")
        )
        notes.append(
            f"kept {len(kept):,} of {len(positions):,} training rows "
            f"(class imbalance {config.noise.imbalance:g})"
        )
        positions = positions[kept]
    if config.max_train_rows is not None and config.max_train_rows < len(positions):
        kept = carve.subset(len(positions), config.max_train_rows, _seed(config, "subset"))
        notes.append(f"kept {len(kept):,} of {len(positions):,} training rows (max_train_rows)")
        positions = positions[kept]
    return positions


def _noisy(settings: Noise, labels: np.ndarray, classes: list[str], seed: int) -> np.ndarray:
    if settings.kind == "symmetric":
        return noise.symmetric(labels, len(classes), settings.rate, seed)
    if settings.kind == "class-conditional":
        transition = noise.next_class(len(classes))
        if settings.transition is not None:
            transition = {
                _class_number(source, classes): _class_number(target, classes)
                for source, target in settings.transition.items()
            }
        return noise.class_conditional(labels, transition, settings.rate, seed)
    return labels


def _class_number(name: str, classes: list[str]) -> int:
    if name not in classes:
        raise SamaError(
            f"data.noise.transition names the class '{name}', which the training split lacks; its "
            f"classes are: {', '.join(classes[:12])}{nearest(name, classes)}"
        )
    return classes.index(name)


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
    if without and abstain == "drop":
        notes.append(f"dropped {without:,} of {len(labels):,} rows without a given label")
        return np.flatnonzero(labels != NONE)
    if without:
        notes.append(f"kept {without:,} of {len(labels):,} rows without a given label")
    return np.arange(len(labels))


def _free(pool: _Pool) -> np.ndarray:
    """Rows that may leave a pool: labelled, and with a content that occurs only once in it.

    A held-out row whose twin stays in training would not be held out.
    """
    content = pool.content[pool.positions]
    _, inverse, counts = np.unique(content, return_inverse=True, return_counts=True)
    return pool.positions[(counts[inverse] == 1) & (pool.trusted[pool.positions] >= 0)]


def _check_enough_left(pool: _Pool, taken: np.ndarray, classes: list[str], config: Data) -> None:
    for number in np.unique(pool.trusted[taken]):
        if not (pool.trusted[pool.positions] == number).any():
            count = int((pool.trusted[taken] == number).sum())
            raise SamaError(
                f"data.meta_per_class is {config.meta_per_class}, but {pool.table.origin} has only "
                f"{count} rows of class '{classes[number]}', and some must be left; lower it"
            )


def _check_classes(splits: Splits) -> None:
    """Refuse training and meta splits of a single class."""
    for split in (splits.train, splits.meta):
        if split is None:
            continue
        present = np.unique(split.labels[split.labels >= 0])
        if present.size < 2:
            only = f"only the class '{splits.classes[present[0]]}'" if present.size else "no class"
            raise SamaError(
                f"the {_long(split.name)} split ({split.origin}) has {only}; classification needs "
                "two or more"
            )


def _warn(splits: Splits) -> None:
    what = "image" if splits.task == "image-classification" else "text"
    train = splits.train
    for split in (splits.meta, splits.validation, splits.test):
        if split is None:
            continue
        shared = int(np.isin(split.content, train.content).sum())
        if shared:
            splits.warnings.append(
                f"{shared:,} of {len(split):,} {split.name} rows also occur in the training split "
                f"(same {what})"
            )
    if splits.meta is not None:
        for split in (splits.validation, splits.test):
            shared = 0 if split is None else int(np.isin(splits.meta.content, split.content).sum())
            if split is not None and shared:
                splits.warnings.append(
                    f"{shared:,} of {len(splits.meta):,} meta rows also occur in the {split.name} "
                    f"split (same {what})"
                )
        lacking = np.setdiff1d(np.unique(train.labels[train.labels >= 0]), splits.meta.labels)
        if lacking.size:
            names = ", ".join(f"'{splits.classes[number]}'" for number in lacking[:12])
            splits.warnings.append(f"the meta split has no row of class {names}")
    for split in (splits.meta, splits.validation, splits.test):
        if split is None:
            continue
        for number in np.setdiff1d(split.labels, train.labels):
            splits.warnings.append(
                f"class '{splits.classes[number]}' occurs in the {split.name} split but in no "
                "given label of the training split"
            )


def _check_roles(config: Data) -> None:
    if config.validation is not None and config.validation == config.train:
        raise SamaError(
            f"data.validation is '{config.validation}', the training split itself; name another"
        )
    for role in ("validation", "test"):
        name = getattr(config, role)
        if config.meta is not None and name == config.meta and config.meta_per_class is None:
            raise SamaError(
                f"data.meta and data.{role} are both '{name}'; set data.meta_per_class to take the "
                "meta rows out of it, or name another split"
            )


def _check_not_empty(table: Table, role: str) -> None:
    if len(table.rows) == 0:
        raise SamaError(f"the {_long(role)} split ({table.origin}) has no rows")


def _long(name: str) -> str:
    return "training" if name == "train" else name


def _declared(table: Table, columns: Columns) -> list[str] | None:
    names = [columns.label, *([columns.true_label] if columns.true_label else [])]
    return declared_classes([(table, name) for name in names])


def _effective_columns(columns: Columns, table: Table) -> Columns:
    if table.true_label is None or columns.true_label is not None:
        return columns
    return columns.model_copy(update={"true_label": table.true_label})


def _with_images(table: Table, columns: Columns, task: Task) -> Table:
    """The table with its image column as datasets' Image: paths resolved, bytes wrapped."""
    if task != "image-classification" or columns.image not in table.rows.column_names:
        return table
    feature = table.rows.features[columns.image]
    if isinstance(feature, datasets.Image):
        return table
    rows = table.rows
    kind = getattr(feature, "dtype", None)
    if kind in ("string", "large_string") and table.base is not None:
        order, base = rows.column_names, table.base
        paths = [None if p is None else str(base / p) for p in rows[columns.image]]
        rows = rows.remove_columns(columns.image).add_column(columns.image, paths)
        rows = rows.select_columns(order)
    elif kind not in ("binary", "large_binary") and not _is_image_struct(feature):
        return table  # refused with its type by check_inputs
    rows = rows.cast_column(columns.image, datasets.Image())
    return Table(rows, table.origin, table.base, table.true_label)


def _is_image_struct(feature: object) -> bool:
    return isinstance(feature, dict) and {"bytes", "path"} <= set(feature)


def _seed(config: Data, stream: str) -> int:
    """An independent seed for one use of randomness, so that options do not shift each other."""
    return int(np.random.SeedSequence([config.seed, _STREAMS.index(stream)]).generate_state(1)[0])
