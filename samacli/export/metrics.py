"""`metrics.json` and `scores.parquet`: what was learnt of all rows together, and of each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.redact import redact_all

# Columns that a run adds to the data.
WEIGHT_COLUMN = "sama_weight"
LABEL_COLUMN = "sama_label"
CLEAN_COLUMN = "sama_clean"


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write strict JSON: NaN and infinity, which JSON does not have, become null; no secrets."""
    path.write_text(strict_json(metrics) + "\n", encoding="utf-8")


def strict_json(value: Any, *, ascii_only: bool = False) -> str:
    """Indented JSON with null for NaN and infinity; paths are text; secrets are left out."""
    # Value by value: in the finished text a secret could be hidden by JSON's escapes.
    return json.dumps(
        redact_all(_strict(value)), indent=2, ensure_ascii=ascii_only, allow_nan=False
    )


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def class_names(ids: np.ndarray, classes: Sequence[str]) -> pa.Array:
    """Class ids (n,) as names, dictionary-encoded; −1 becomes null."""
    indices = pa.array(ids.astype(np.int32), mask=ids < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(classes), pa.string()))


def known_numbers(values: np.ndarray) -> pa.Array:
    """float32 (n,), null where a number is not known (NaN)."""
    return pa.array(values.astype(np.float32), from_pandas=True)


def write_scores(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length (numpy or Arrow arrays), a row an input row, to one file."""
    pq.write_table(pa.table(dict(columns)), path)
