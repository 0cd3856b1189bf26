"""`scores.parquet`: one row for each input row, with everything that was learnt of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def class_names(ids: np.ndarray, classes: Sequence[str]) -> pa.Array:
    """Class ids (n,) as names, dictionary-encoded; −1 becomes null."""
    indices = pa.array(ids.astype(np.int32), mask=ids < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(classes), pa.string()))


def write_scores(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length (numpy or Arrow arrays) to one Parquet file."""
    pq.write_table(pa.table(dict(columns)), path)
