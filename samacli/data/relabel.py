"""Damaged labels written into the rows, so that what is exported is what was trained on."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from samacli.recipe.schema import Columns


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
