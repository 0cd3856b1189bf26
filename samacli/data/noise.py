"""Damage done on purpose: label noise and class imbalance, and the training split that has it.

Wrong labels are written into the rows, so that what is exported is what was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from samacli.data import carve
from samacli.data.pool import Pool
from samacli.data.split import Split
from samacli.errors import SamaError, nearest
from samacli.recipe.schema import Columns, Data, Noise


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


def damaged_split(pool: Pool, config: Data, notes: list[str]) -> tuple[Split, Columns]:
    """What is left of the training pool, thinned and damaged; columns with the true label's name.

    What was done is added to `notes`. Without damage, this is the pool as it is.
    """
    columns, classes = pool.columns, pool.classes.names
    rows = _thinned(pool, config, notes)
    table, truth, labels = pool.table.rows, pool.truth, pool.labels
    if config.noise.kind != "none":
        labels = pool.labels.copy()
        seed = carve.stream_seed(config.seed, "noise")
        labels[rows] = _noisy(config.noise, pool.labels[rows], classes, seed)
        wrong = int((labels != pool.labels).sum())
        notes.append(
            f"made {wrong:,} of {len(rows):,} training labels wrong "
            f"({config.noise.kind} noise, rate {config.noise.rate:g})"
        )
        truth = pool.trusted
        table, columns = write_labels(table, columns, labels, pool.labels, classes)
    split = Split(
        name="train",
        rows=table.select(rows),
        labels=labels[rows],
        true_labels=None if truth is None else truth[rows],
        index=rows,
        content=pool.content[rows],
        origin=pool.table.origin,
        votes=pool.votes(rows),
    )
    return split, columns


def _thinned(pool: Pool, config: Data, notes: list[str]) -> np.ndarray:
    positions, entered, labels = pool.positions, pool.entered, pool.labels
    if config.noise.imbalance > 1:
        seed = carve.stream_seed(config.seed, "imbalance")
        kept = imbalance(labels[positions], config.noise.imbalance, seed)
        notes.append(
            f"kept {len(kept):,} of {len(positions):,} training rows "
            f"(class imbalance {config.noise.imbalance:g})"
        )
        positions = entered = positions[kept]
    if config.max_train_rows is not None and config.max_train_rows < len(positions):
        seed = carve.stream_seed(config.seed, "subset")
        kept = carve.subset_of(entered, positions, config.max_train_rows, seed)
        notes.append(f"kept {len(kept):,} of {len(positions):,} training rows (max_train_rows)")
        positions = kept
    return positions


def _noisy(settings: Noise, labels: np.ndarray, classes: list[str], seed: int) -> np.ndarray:
    if settings.kind == "symmetric":
        return symmetric(labels, len(classes), settings.rate, seed)
    transition = next_class(len(classes))
    if settings.transition is not None:
        transition = {
            _class_number(source, classes): _class_number(target, classes)
            for source, target in settings.transition.items()
        }
    return class_conditional(labels, transition, settings.rate, seed)


def _class_number(name: str, classes: list[str]) -> int:
    if name not in classes:
        raise SamaError(
            f"data.noise.transition names the class '{name}', which the training split lacks; its "
            f"classes are: {', '.join(classes[:12])}{nearest(name, classes)}"
        )
    return classes.index(name)


def write_labels(
    rows: datasets.Dataset,
    columns: Columns,
    noisy: np.ndarray,
    clean: np.ndarray,
    classes: list[str],
) -> tuple[datasets.Dataset, Columns]:
    """Rows whose label column says `noisy` where that differs from `clean`, in the column's type.

    noisy, clean: int64 (n,) ids into `classes`, −1 for none. What the column said before is kept
    in the true-label column, a new last one unless the rows have it already. Returns the rows, in
    the same column order, and the columns with `true_label` set.
    """
    before = rows.select_columns([columns.label]).with_format("arrow")[:][columns.label]
    before = before.combine_chunks() if isinstance(before, pa.ChunkedArray) else before
    if isinstance(before, pa.ChunkedArray):  # too long for one chunk
        before = pa.concat_arrays(before.chunks)
    changed = np.flatnonzero(noisy != clean)
    values = _raw_values(rows.features[columns.label], before, clean, classes)
    replacement = values.take(pa.array(noisy[changed]))
    mask = np.zeros(len(before), dtype=bool)
    mask[changed] = True
    after = pc.replace_with_mask(before, pa.array(mask), replacement)

    order = rows.column_names
    feature = rows.features[columns.label]
    true_label = columns.true_label
    rows = rows.remove_columns(columns.label).add_column(columns.label, after, feature=feature)
    if true_label is None or true_label not in order:
        true_label = true_label or "true_label"
        while true_label in order:
            true_label = f"sama_{true_label}"
        rows = rows.add_column(true_label, before, feature=feature)
        order = [*order, true_label]
    return rows.select_columns(order), columns.model_copy(update={"true_label": true_label})


def _raw_values(feature: Any, before: pa.Array, clean: np.ndarray, classes: list[str]) -> pa.Array:
    """How the column writes each class: by its first row, or by its number if it has no row."""
    values: list[Any] = []
    for number, name in enumerate(classes):
        rows = np.flatnonzero(clean == number)
        if rows.size:
            values.append(before[int(rows[0])].as_py())
        else:
            values.append(number if pa.types.is_integer(before.type) else name)
    return pa.array(values, type=before.type)
