"""The reweighted or pruned dataset, as Parquet that `datasets.load_dataset` reads."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import yaml
from datasets.table import embed_table_storage

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
    """Class ids (n,) as values of the kind that the given label's column holds, and that kind.

    given: the given labels' ids (n,) and how the column writes them: text that is written otherwise
    than its class is called ("pos ") stays so where the label has not changed.
    """
    if isinstance(feature, datasets.ClassLabel):
        return ids, datasets.ClassLabel(names=list(classes))
    if feature.dtype.startswith(("int", "uint")):
        return np.array([int(name) for name in classes])[ids], feature
    if feature.dtype.startswith("float"):
        return np.array([float(name) for name in classes])[ids], feature
    if feature.dtype == "bool":
        return np.array([name == "True" for name in classes])[ids], feature
    names = [classes[i] for i in ids]
    if given is not None:
        same = ids == given[0]
        names = [cell if s else name for s, cell, name in zip(same, given[1], names, strict=True)]
    return names, feature


def write_dataset(rows: datasets.Dataset, directory: Path, card: str) -> None:
    """Write `directory/train-*.parquet`, streamed, and the card as `README.md` beside the folder.

    Not in it: pandas and pyarrow read every file of a folder that they are given. Images are
    written as their bytes, wherever they came from: the folder can be moved and shared.
    """
    directory.mkdir(parents=True, exist_ok=True)
    images = [n for n, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    size = rows.data.nbytes if len(rows) else 0
    size += sum(_bytes_of_files(rows, name) for name in images)
    shards = max(1, math.ceil(size / _SHARD_BYTES))
    shards = min(shards, max(len(rows), 1))
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        for i in range(shards):
            shard = rows.shard(shards, i, contiguous=True) if shards > 1 else rows
            path = directory / f"train-{i:05d}-of-{shards:05d}.parquet"
            if images:
                _write_embedded(shard, path)
            else:
                with path.open("wb") as file:  # a path is taken for an address where it has "::"
                    shard.to_parquet(file)
    finally:
        if not bars:
            datasets.enable_progress_bars()
    (directory.parent / "README.md").write_text(card, encoding="utf-8")


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
    *, title: str, task: str, facts: list[str], columns: Mapping[str, str], version: str
) -> str:
    """A dataset card: what this is, how it was made, what its added columns mean."""
    # No `configs:` here: datasets 5 keeps one cache for every local folder of the same name whose
    # card declares a configuration, and would load an earlier run's rows in place of this one's.
    front = yaml.safe_dump(
        {"task_categories": [task], "tags": ["samacli", "reweighted"]}, sort_keys=False
    )
    listed = "\n".join(f"- {fact}" for fact in facts)
    table = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in columns.items())
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
"""
