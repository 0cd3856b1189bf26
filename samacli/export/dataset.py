"""The reweighted or pruned dataset, as Parquet that `datasets.load_dataset` reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import yaml

from samacli.export.columns import LABEL_COLUMN, WEIGHT_COLUMN

__all__ = [
    "LABEL_COLUMN",
    "WEIGHT_COLUMN",
    "dataset_card",
    "label_values",
    "with_columns",
    "write_dataset",
]

_SHARD_BYTES = 500_000_000


def with_columns(
    rows: datasets.Dataset, columns: Mapping[str, tuple[Any, Any]]
) -> datasets.Dataset:
    """`rows` with columns (values, feature) added; those of an earlier run are replaced."""
    rows = rows.remove_columns([name for name in columns if name in rows.column_names])
    for name, (values, feature) in columns.items():
        rows = rows.add_column(name, values, feature=feature)
    return rows


def label_values(
    ids: np.ndarray, classes: Sequence[str], feature: datasets.Value | datasets.ClassLabel
) -> tuple[np.ndarray | list[str], datasets.Value | datasets.ClassLabel]:
    """Class ids (n,) as values of the kind that the given label's column holds, and that kind."""
    if isinstance(feature, datasets.ClassLabel):
        return ids, datasets.ClassLabel(names=list(classes))
    if feature.dtype.startswith(("int", "uint")):
        return np.array([int(name) for name in classes])[ids], feature
    return [classes[i] for i in ids], datasets.Value("string")


def write_dataset(rows: datasets.Dataset, directory: Path, card: str) -> None:
    """Write `directory/train-*.parquet`, streamed, and the card as `directory/README.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    shards = max(1, math.ceil((rows.data.nbytes if len(rows) else 0) / _SHARD_BYTES))
    shards = min(shards, max(len(rows), 1))
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        for i in range(shards):
            shard = rows.shard(shards, i, contiguous=True) if shards > 1 else rows
            shard.to_parquet(str(directory / f"train-{i:05d}-of-{shards:05d}.parquet"))
    finally:
        if not bars:
            datasets.enable_progress_bars()
    (directory / "README.md").write_text(card, encoding="utf-8")


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

Made by samacli {version}; `recipe.yaml` beside this folder repeats the run.

{listed}

| added column | meaning |
| --- | --- |
{table}

```python
import datasets

rows = datasets.load_dataset("PATH/TO/THIS/FOLDER", split="train")
```
"""
