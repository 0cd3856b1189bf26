"""`keep.txt`: the rows that are kept, for tools that know nothing of samacli."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_kept_rows(folder: Path, index: np.ndarray, kept: Mapping[str, np.ndarray]) -> None:
    """Write `keep-KEEP.txt` for each keep, and the first one's again as `keep.txt`.

    One row number of the input a line, counted from 0, rising.

    index: input positions of the training split's rows (n,). kept: rows of the split, by keep.
    """
    for place, (keep, rows) in enumerate(kept.items()):
        text = "".join(f"{number}\n" for number in np.sort(index[rows]).tolist())
        (folder / f"keep-{keep}.txt").write_text(text, encoding="utf-8")
        if place == 0:
            (folder / "keep.txt").write_text(text, encoding="utf-8")
