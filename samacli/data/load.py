"""From a recipe's `data:` section to splits.

In this order: read; bring labels to class ids; drop abstentions; check and hash the contents; take
test and meta rows out of the split that they share; damage the training split if the recipe says
so; look for rows that occur in two splits. Rows always stay in input order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samacli.data import carve
from samacli.data.noise import damaged_split
from samacli.data.overlap import (
    alike_warnings,
    check_classes,
    known_rows_note,
    split_warnings,
)
from samacli.data.pool import Classes, Pool, clean_pool, training_pool
from samacli.data.sources import make_opener
from samacli.data.split import Split, Splits, stacked
from samacli.data.table import Table, check_column, quiet_datasets, utf8_or_refused
from samacli.errors import SamaError, counted
from samacli.progress import Progress, Silent
from samacli.recipe.schema import Data, Task


def load_splits(
    config: Data,
    task: Task,
    progress: Progress | None = None,
    tables: Mapping[str, Table] | None = None,
) -> Splits:
    """Read, check and split the data that a recipe names.

    tables: rows that a program has already, by the name that the recipe calls them.

    Raises SamaError, one sentence naming file, column, row or option and the mend, for anything
    wrong with the data or with what the recipe says about them.
    """
    if config.train is None:
        raise SamaError("data.train names no training split; give a split's name or a file")
    _check_roles(config)
    with quiet_datasets():
        return _load(config, task, config.train, progress or Silent(), tables or {})


def load_split(
    config: Data,
    task: Task,
    classes: Sequence[str],
    *,
    role: str = "test",
    progress: Progress | None = None,
) -> Split:
    """One clean split on its own, labelled by classes that are known already (a trained model's).

    Reads what `config` names as `role`. Raises SamaError as `load_splits` does, and for a label
    that is not one of `classes`.
    """
    name = getattr(config, role)
    if name is None:
        raise SamaError(f"data.{role} names no split; give a split's name or a file")
    known = Classes(list(classes), declared=True)
    with quiet_datasets():
        table = make_opener(config)(name, f"data.{role}")
        with utf8_or_refused(table):
            pool, notes = clean_pool(
                table,
                role,
                config.columns,
                task,
                known,
                "the model",
                progress or Silent(),
                skip=config.bad_images == "skip",
            )
    for note in [*table.notes, *notes]:
        (progress or Silent()).note(note)
    for warning in alike_warnings(classes):
        (progress or Silent()).warn(warning)
    return _spared(pool.clean_split(role, pool.positions), config)


def _load(
    config: Data, task: Task, train_name: str, progress: Progress, tables: Mapping[str, Table]
) -> Splits:
    open_table = make_opener(config, tables)
    train_table = open_table(train_name, "data.train")
    named = [(role, name) for role in ("validation", "test") if (name := getattr(config, role))]
    named += [("meta", name) for name in config.metas]
    clean_tables: dict[str, Table] = {}
    for role, name in named:
        if name != train_name and name not in clean_tables:
            clean_tables[name] = open_table(name, f"data.{role}")
    notes = list(train_table.notes)
    _check_true_label(config, {train_name: train_table, **clean_tables}, notes)
    with utf8_or_refused(train_table):
        train, more = training_pool(
            train_table, config, task, progress, list(clean_tables.values())
        )
    notes += more
    pools = {train_name: train}
    for role, name in named:
        if name not in pools:
            table = clean_tables[name]
            notes += table.notes
            known_to = "the training split"
            with utf8_or_refused(table):
                pools[name], more = clean_pool(
                    table,
                    role,
                    train.columns,
                    task,
                    train.classes,
                    known_to,
                    progress,
                    skip=config.bad_images == "skip",
                )
                notes += more

    # Clean rows leave the training split before it is damaged.
    clean: dict[str, Split] = {}
    if config.test == train_name:
        clean["test"] = _held_out_test(train, config, notes)
    if config.meta is not None:
        clean["meta"] = _meta([pools[name] for name in config.metas], config, train_name, notes)
    for role in ("validation", "test"):
        name = getattr(config, role)
        if name is not None and role not in clean:
            clean[role] = pools[name].clean_split(role, pools[name].positions)
    if "test" in clean:
        clean["test"] = _at_most(clean["test"], config, notes)

    for one in clean.values():
        _spared(one, config)
    split, columns = damaged_split(train, config, notes)
    splits = Splits(
        task=task,
        columns=columns,
        classes=train.classes.names,
        train=split,
        meta=clean.get("meta"),
        validation=clean.get("validation"),
        test=clean.get("test"),
        notes=notes,
    )
    check_classes(splits)
    known = known_rows_note(splits)
    notes += [] if known is None else [known]
    splits.warnings = split_warnings(splits)
    return splits


def _spared(split: Split, config: Data) -> Split:
    """A clean split; without given labels where these are not to be used, or are not like those of
    the training rows, which have noise injected."""
    if config.noise.kind != "none" or not config.clean_given_labels:
        split.given_labels = None
    return split


def _check_true_label(config: Data, tables: Mapping[str, Table], notes: list[str]) -> None:
    """Refuse a true-label column that no split has, before rows are read; note where the given
    label stands in for it."""
    column = config.columns.true_label
    if column is None:
        return
    lacking = [name for name, table in tables.items() if column not in table.rows.column_names]
    if len(lacking) == len(tables) and column != config.columns.label:
        check_column(tables[lacking[0]], column, "data.columns.true_label")
    for name in lacking:
        if name != config.train:
            notes.append(
                f"{tables[name].origin} has no column '{column}'; its labels are those of "
                f"column '{config.columns.label}'"
            )


def _held_out_test(train: Pool, config: Data, notes: list[str]) -> Split:
    assert config.test_fraction is not None  # the schema asks for it
    chosen = carve.stratified(
        train.trusted[train.positions],
        np.isin(train.positions, train.free()),
        config.test_fraction,
        carve.stream_seed(config.seed, "test"),
    )
    rows = train.take(train.positions[chosen])
    notes.append(f"held {counted(len(rows), 'row')} out of the training split as test split")
    return train.clean_split("test", rows)


def _at_most(test: Split, config: Data, notes: list[str]) -> Split:
    """The test split, or `max_test_rows` of it."""
    count = config.max_test_rows
    if count is None or count >= len(test):
        return test
    kept = carve.subset(len(test), count, carve.stream_seed(config.seed, "test-subset"))
    notes.append(f"kept {count:,} of {len(test):,} test rows (max_test_rows)")
    return test.select(kept)


def _meta(pools: Sequence[Pool], config: Data, train_name: str, notes: list[str]) -> Split:
    """The meta split: all rows of the pools, or so many rows a class out of the only one.

    Of rows that two pools have, the later one's counts.
    """
    if config.meta_per_class is None:
        split: Split | None = None
        for pool in pools:
            more = pool.clean_split("meta", pool.positions)
            if split is None:
                split = more
                continue
            older = split.twins_in(more) < 0
            if not older.all():
                again = int((~older).sum())
                counting = "label there counts" if again == 1 else "labels there count"
                notes.append(
                    f"{again:,} of {counted(len(split), 'row')} of {split.origin} also "
                    f"occur{'s' * (again == 1)} in {more.origin}; the {counting}"
                )
            split = stacked(split.select(np.flatnonzero(older)), more)
        assert split is not None
        return split
    (pool,) = pools
    shared = config.meta in (train_name, config.test, config.validation)
    candidates = pool.free() if shared else pool.positions
    seed = config.seed if config.meta_seed is None else config.meta_seed
    chosen = carve.per_class(
        pool.trusted[candidates], config.meta_per_class, carve.stream_seed(seed, "meta")
    )
    rows = pool.take(candidates[chosen])
    if shared:
        _check_enough_left(pool, rows, config.meta_per_class)
        notes.append(f"took {counted(len(rows), 'meta row')} out of the split '{config.meta}'")
    else:
        notes.append(
            f"took {len(rows):,} of {len(rows) + len(pool.positions):,} rows of "
            f"{pool.table.origin} as meta split; the others are not used"
        )
    for number, name in enumerate(pool.classes.names):
        count = int((pool.trusted[rows] == number).sum())
        if 0 < count < config.meta_per_class:
            notes.append(
                f"class '{name}' has only {counted(count, 'meta row')} (meta_per_class is "
                f"{config.meta_per_class})"
            )
    return pool.clean_split("meta", rows)


def _check_enough_left(pool: Pool, taken: np.ndarray, wanted: int) -> None:
    left = pool.trusted[pool.positions]
    for number in np.unique(pool.trusted[taken]):
        if not (left == number).any():
            count = int((pool.trusted[taken] == number).sum())
            name = pool.classes.names[number]
            raise SamaError(
                f"data.meta_per_class is {wanted}, but {pool.table.origin} has only "
                f"{counted(count, 'row')} "
                f"of class '{name}' to take from, and some must be left; lower it"
            )


def _check_roles(config: Data) -> None:
    if config.validation is not None and config.validation == config.train:
        raise SamaError(
            f"data.validation is '{config.validation}', the training split itself; name another"
            + config.or_splits_of_a_folder("validation")
        )
    for role in ("validation", "test"):
        name = getattr(config, role)
        if config.meta is not None and name == config.meta and config.meta_per_class is None:
            raise SamaError(
                f"data.meta and data.{role} are both '{name}'; set data.meta_per_class to take the "
                "meta rows out of it, or name another split"
            )
