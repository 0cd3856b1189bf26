"""`keep.txt`: the rows that are kept, for tools that know nothing of samacli."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samacli.export.kept import KEEP_FILE, KeepList


def write_kept_rows(folder: Path, index: np.ndarray, kept: Mapping[str, np.ndarray]) -> None:
    """Write `keep-KEEP.txt` for each keep, and the first one's again as `keep.txt`.

    One row number of the input a line, counted from 0, rising.

    index: input positions of the training split's rows (n,). kept: rows of the split, by keep.
    """
    for place, (keep, rows) in enumerate(kept.items()):
        file = folder / f"keep-{keep}.txt"
        with KeepList(file) as names:
            names.add(np.sort(index[rows]).tolist())
        if place == 0:
            shutil.copyfile(file, folder / KEEP_FILE)
