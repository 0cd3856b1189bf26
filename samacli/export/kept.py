"""Which rows were kept: `keep.txt`, and the rows themselves as Parquet, both written as they come.

`keep.txt` is for others to use without us: one kept row a line, its number or its id, in order.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.errors import SamaError

KEEP_FILE = "keep.txt"
KEEP_TABLE = "keep.csv"
KEPT_FOLDER = "kept"
_ROWS_A_SHARD = 1_000_000
_ROWS_A_GROUP = 1 << 16


class KeepList:
    """`keep.txt` while it is written; a context manager."""

    def __init__(self, path: Path) -> None:
        self.written = 0
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def add(self, names: Sequence[int | str | None]) -> None:
        """Write row numbers or ids, one a line.

        Raises:
            SamaError: an id is missing, or is more than a line.
        """
        for place, name in enumerate(names):
            if name is None:
                raise SamaError(
                    f"kept row {self.written + place:,} (counted from 0) has no id; name another "
                    "column with --id"
                )
        lines = "".join(f"{name}\n" for name in names)
        if lines.count("\n") != len(names):
            broken = next(name for name in names if "\n" in str(name))
            raise SamaError(
                f"the id {broken!r} holds a line break, and {KEEP_FILE} has one id a line; name "
                "another column with --id"
            )
        self._file.write(lines)
        self.written += len(names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def write_keep_lists(
    folder: Path,
    index: np.ndarray,
    kept: Mapping[str, np.ndarray],
    ids: Sequence[str | None] | None = None,
) -> None:
    """Write `keep-KEEP.txt` for each keep, and the first one's again as `keep.txt`.

    One row number of the input a line, counted from 0, rising. With ids, `keep.csv` has them beside
    the numbers of `keep.txt`, as they are: it is for programs, so no text is quoted against
    spreadsheets.

    index: input positions of the training split's rows (n,). kept: rows of the split, by keep.
    ids: what the split's rows are called (n,).
    """
    for place, (keep, rows) in enumerate(kept.items()):
        file = folder / f"keep-{keep}.txt"
        with KeepList(file) as names:
            names.add(np.sort(index[rows]).tolist())
        if place == 0:
            shutil.copyfile(file, folder / KEEP_FILE)
            if ids is not None:
                with (folder / KEEP_TABLE).open("w", encoding="utf-8", newline="") as table:
                    lines = csv.writer(table, lineterminator="\n")
                    lines.writerow(["index", "id"])
                    chosen = sorted(rows.tolist(), key=lambda row: index[row])
                    lines.writerows([int(index[row]), ids[row] or ""] for row in chosen)


class KeptRows:
    """Parquet files of a million rows, `kept-00000.parquet` and on; a context manager.

    Rows are written as they come: one row group of them is in memory.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir()
        self._folder, self._schema = folder, schema
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []
        self._rows = self._shards = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Write rows after those before."""
        self._held.append(rows)
        if sum(batch.num_rows for batch in self._held) >= _ROWS_A_GROUP:
            self._write()

    def _write(self) -> None:
        table = pa.Table.from_batches(self._held, self._schema).unify_dictionaries()
        self._held = []
        if self._writer is None:
            file = self._folder / f"kept-{self._shards:05d}.parquet"
            self._writer = pq.ParquetWriter(file, self._schema)
            self._rows, self._shards = 0, self._shards + 1
        self._writer.write_table(table)
        self._rows += table.num_rows
        if self._rows >= _ROWS_A_SHARD:
            self._finish()

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None and any(batch.num_rows for batch in self._held):
            self._write()
        self._finish()
