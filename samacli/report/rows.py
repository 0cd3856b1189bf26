"""Some rows of an exported dataset, read without the rest and without a cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.errors import SamaError


def columns_of(
    folder: Path, columns: Sequence[str], places: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """Columns of the rows at `places` (counted over all files in order), by place.

    Only the row groups that hold one are read. Columns or rows that are not there are left out.

    Raises:
        SamaError: a file cannot be read.
    """
    left = np.unique(np.array(places, dtype=np.int64))
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for file in sorted(folder.glob("*.parquet")):
        with _opened(file) as parquet:
            names = [name for name in columns if name in parquet.schema_arrow.names]
            for group in range(parquet.num_row_groups):
                count = parquet.metadata.row_group(group).num_rows
                inside = left[(left >= start) & (left < start + count)]
                if len(inside) and names:
                    table = parquet.read_row_group(group, columns=names).take(inside - start)
                    found |= dict(zip(inside.tolist(), table.to_pylist(), strict=True))
                start += count
    return found


def class_names_of(folder: Path, column: str) -> np.ndarray | None:
    """A whole column of labels as class names (n,), None for a missing one; None: no such column.

    Raises:
        SamaError: a file cannot be read.
    """
    names: list[str | None] = []
    files = sorted(folder.glob("*.parquet"))
    for file in files:
        with _opened(file) as parquet:
            schema = parquet.schema_arrow
            if column not in schema.names:
                return None
            values = parquet.read(columns=[column])[column].to_pylist()
        classes = _class_names(schema, column)
        names += [
            None if value is None else str(value) if classes is None else classes[value]
            for value in values
        ]
    return np.array([*names, None], dtype=object)[:-1] if files else None


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Of a `datasets.ClassLabel`, whose names are in the metadata; None for other columns."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    feature = json.loads(metadata).get("info", {}).get("features", {}).get(column, {})
    return feature.get("names") if feature.get("_type") == "ClassLabel" else None


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise SamaError(f"'{file}' cannot be read: {' '.join(str(error).split())}") from error
