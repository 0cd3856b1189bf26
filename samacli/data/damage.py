"""The training split with the damage that a recipe asks for: imbalance, a subset, wrong labels.

Wrong labels are written into the rows, so that what is exported is what was trained on.
"""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from samacli.data import carve, noise
from samacli.data.pool import Pool
from samacli.data.split import Split
from samacli.data.streams import stream_seed
from samacli.errors import SamaError, nearest
from samacli.recipe.schema import Columns, Data, Noise


def damaged_split(pool: Pool, config: Data, notes: list[str]) -> tuple[Split, Columns]:
    """What is left of the training pool, thinned and damaged; columns with the true label's name.

    What was done is added to `notes`. Without damage, this is the pool as it is.
    """
    columns, classes = pool.columns, pool.classes.names
    rows = _thinned(pool, config, notes)
    table, truth, labels = pool.table.rows, pool.truth, pool.labels
    if config.noise.kind != "none":
        labels = pool.labels.copy()
        seed = stream_seed(config.seed, "noise")
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
        seed = stream_seed(config.seed, "imbalance")
        kept = noise.imbalance(labels[positions], config.noise.imbalance, seed)
        notes.append(
            f"kept {len(kept):,} of {len(positions):,} training rows "
            f"(class imbalance {config.noise.imbalance:g})"
        )
        positions = entered = positions[kept]
    if config.max_train_rows is not None and config.max_train_rows < len(positions):
        seed = stream_seed(config.seed, "subset")
        kept = carve.subset_of(entered, positions, config.max_train_rows, seed)
        notes.append(f"kept {len(kept):,} of {len(positions):,} training rows (max_train_rows)")
        positions = kept
    return positions


def _noisy(settings: Noise, labels: np.ndarray, classes: list[str], seed: int) -> np.ndarray:
    if settings.kind == "symmetric":
        return noise.symmetric(labels, len(classes), settings.rate, seed)
    transition = noise.next_class(len(classes))
    if settings.transition is not None:
        transition = {
            _class_number(source, classes): _class_number(target, classes)
            for source, target in settings.transition.items()
        }
    return noise.class_conditional(labels, transition, settings.rate, seed)


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
