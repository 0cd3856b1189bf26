"""The reweighted or pruned dataset, as Parquet that `datasets.load_dataset` reads."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets.table import embed_table_storage

from samacli.data import Splits
from samacli.data.table import quiet_datasets
from samacli.export.metrics import CLEAN_COLUMN, WEIGHT_COLUMN

CLEAN_FILE = "clean.parquet"

_SHARD_BYTES = 500_000_000
_IMAGE_ROWS = 100  # a row group; photographs are large


def with_columns(
    rows: datasets.Dataset, columns: Mapping[str, tuple[Any, Any]]
) -> datasets.Dataset:
    """`rows` with columns (values, feature) added; those of an earlier run are replaced."""
    rows = rows.remove_columns([name for name in columns if name in rows.column_names])
    for name, (values, feature) in columns.items():
        rows = rows.add_column(name, values, feature=feature)
    return rows


def label_values(
    ids: np.ndarray,
    classes: Sequence[str],
    feature: datasets.Value | datasets.ClassLabel,
    given: tuple[np.ndarray, Sequence[Any]] | None = None,
) -> tuple[np.ndarray | list[Any], datasets.Value | datasets.ClassLabel]:
    """Class ids (n,), −1 for none, as values of the kind that a label column holds, and that kind.

    given: the given labels' ids (n,) and how the column writes them: text that is written otherwise
    than its class is called ("pos ") stays so where the label has not changed.
    """
    if isinstance(feature, datasets.ClassLabel):
        return ids, datasets.ClassLabel(names=list(classes))
    cells: list[Any] = list(classes)
    if feature.dtype.startswith(("int", "uint")):
        # Numbers of the classes, where it stands beside a column that names them.
        cells = [int(name) if _is_number(name) else i for i, name in enumerate(classes)]
    elif feature.dtype.startswith("float"):
        cells = [float(name) for name in classes]
    elif feature.dtype == "bool":
        cells = [name == "True" for name in classes]
    values = [cells[i] if i >= 0 else None for i in ids]
    if given is not None and feature.dtype in ("string", "large_string"):
        same = ids == given[0]
        values = [cell if s else name for s, cell, name in zip(same, given[1], values, strict=True)]
    return values, feature


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def clean_rows(splits: Splits) -> pa.Array:
    """Of each training row the clean row that it is, counted from 0; null for none."""
    return pa.array(splits.clean_twins.astype(np.int32), mask=splits.clean_twins < 0)


def clean_like(
    rows: datasets.Dataset, splits: Splits, weights: np.ndarray, labels: Sequence[str]
) -> datasets.Dataset:
    """The clean rows with the columns of `rows`, the exported training rows, and their types.

    Each column of `labels` that is there holds the clean label. What clean rows have no value for,
    or one of another kind, is null.

    weights: (m,).
    """
    meta, features = splits.meta, rows.features
    assert meta is not None
    own: dict[str, tuple[Any, Any]] = {
        WEIGHT_COLUMN: (weights, features[WEIGHT_COLUMN]),
        CLEAN_COLUMN: (np.arange(len(meta), dtype=np.int32), datasets.Value("int32")),
        **{
            name: label_values(meta.labels, splits.classes, features[name])
            for name in labels
            if name in features
        },
    }
    own = {name: values for name, values in own.items() if name in features}
    shared = [name for name in meta.rows.column_names if name in features and name not in own]
    made = meta.rows.select_columns(shared)
    for name in shared:
        if made.features[name] == features[name]:
            continue
        try:
            with quiet_datasets():
                made = made.cast_column(name, features[name])
        except (pa.ArrowException, ValueError, TypeError):
            made = made.remove_columns(name)
    for name in features:
        if name not in made.column_names:
            values, feature = own.get(name, ([None] * len(meta), features[name]))
            made = made.add_column(name, values, feature=feature)
    return made.select_columns(rows.column_names)


def write_dataset(rows: datasets.Dataset, directory: Path, card: str) -> None:
    """Write `directory/train-*.parquet`, streamed, and the card as `README.md` beside the folder.

    Not in it: pandas and pyarrow read every file of a folder that they are given.
    """
    directory.mkdir(parents=True, exist_ok=True)
    size = rows.data.nbytes if len(rows) else 0
    size += sum(_bytes_of_files(rows, name) for name in _images(rows))
    shards = max(1, math.ceil(size / _SHARD_BYTES))
    shards = min(shards, max(len(rows), 1))
    for i in range(shards):
        shard = rows.shard(shards, i, contiguous=True) if shards > 1 else rows
        write_rows(shard, directory / f"train-{i:05d}-of-{shards:05d}.parquet")
    (directory.parent / "README.md").write_text(card, encoding="utf-8")


def write_rows(rows: datasets.Dataset, path: Path) -> None:
    """Write one Parquet file.

    Images are written as their bytes, wherever they came from: the file can be moved and shared.
    """
    with quiet_datasets():
        if _images(rows):
            _write_embedded(rows, path)
        else:
            with path.open("wb") as file:  # a path is taken for an address where it has "::"
                rows.to_parquet(file)


def _images(rows: datasets.Dataset) -> list[str]:
    return [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]


def _bytes_of_files(rows: datasets.Dataset, column: str) -> int:
    """Size of the image files that the rows name without holding them."""
    raw = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    total = 0
    for batch in raw.with_format("arrow").iter(1000):
        for value in batch[column].to_pylist():
            if value and value["bytes"] is None and value["path"] is not None:
                total += os.path.getsize(value["path"])
    return total


def _write_embedded(rows: datasets.Dataset, path: Path) -> None:
    schema = rows.features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for batch in rows.with_format("arrow").iter(_IMAGE_ROWS):
            writer.write_table(embed_table_storage(batch.cast(schema)))


def dataset_card(
    *,
    title: str,
    task: str,
    facts: list[str],
    columns: Mapping[str, str],
    version: str,
    clean: bool = False,
) -> str:
    """A dataset card: what this is, how it was made, what its added columns mean.

    clean: whether clean rows stand beside the dataset.
    """
    # No `configs:` here: datasets 5 keeps one cache for every local folder of the same name whose
    # card declares a configuration, and would load an earlier run's rows in place of this one's.
    front = yaml.safe_dump(
        {"task_categories": [task], "tags": ["samacli", "reweighted"]}, sort_keys=False
    )
    listed = "\n".join(f"- {fact}" for fact in facts)
    table = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in columns.items())
    both = """
The clean rows are in `clean.parquet`, apart from the others. To train on both, as `sama train` does
it:

```python
from samacli.trainer import rows_to_train_on

rows = rows_to_train_on("PATH/TO")  # clean rows come again until they have their share
```
"""
    return f"""---
{front}---

# {title}

Made by samacli {version}; `recipe.yaml` beside this file repeats the run.

{listed}

| added column | meaning |
| --- | --- |
{table}

```python
import datasets

rows = datasets.load_dataset("PATH/TO/dataset", split="train")
```
{both if clean else ""}"""
