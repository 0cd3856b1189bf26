"""Selection from score files of any length, by an out-of-core sort.

The files, Parquet with a score a row, are read as one long table that never is in memory whole.

A selection by rank keeps, of each class, the rows down to some last one. So DuckDB sorts
(class, score, row) on disk, under a limit of memory, and gives only that last row of each class,
its `Cut`; a second pass over the files compares each row with the cut, in the order of the files.

DuckDB rather than Polars, from 100 million rows of 100 files on 2 cores, with 1 GB allowed: DuckDB
2.0.1 kept to 1.1 GB; Polars 2.1.0, whose streaming engine takes no limit, held 6.3 GB when it was
stopped.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.errors import SamaError, nearest
from samacli.pruning.selection import class_quotas

MEMORY_MB = 1024
ROWS_AT_ONCE = 1 << 16
# A row of the sort on disk: class, score, row number, and DuckDB's own bookkeeping, measured.
SORT_BYTES_A_ROW = 40
_THREAD_MB = 256  # each thread holds row groups of its own
# Columns are those in the files; a folder called "label=3" adds none.
_READ = "read_parquet(?, hive_partitioning = false)"
_FILE_SHIFT = 40  # row numbers within a file are below 2^40


@dataclass(frozen=True)
class ScoreFiles:
    """Files in the order of their names, all with the same columns.

    starts: int64 (files + 1,), the number of each file's first row, counted through all files from
    0; the last is the number of rows. schema: of the first file.
    """

    files: list[Path]
    starts: np.ndarray
    schema: pa.Schema

    @property
    def rows(self) -> int:
        return int(self.starts[-1])

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.stat().st_size for file in self.files)

    def batches(self, columns: Sequence[str] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(number of its first row, batch) in order; of `columns`, by default of all.

        Raises:
            SamaError: a file cannot be read to its end.
        """
        for file, start in zip(self.files, self.starts, strict=False):
            row = int(start)
            with _opened(file) as parquet:
                batches = parquet.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False)
                while True:
                    try:
                        batch = next(batches, None)
                    except (OSError, pa.ArrowException) as error:
                        raise SamaError(f"cannot read {file} to its end: {error}") from error
                    if batch is None:
                        break
                    yield row, batch
                    row += batch.num_rows


def open_score_files(path: Path) -> ScoreFiles:
    """The Parquet file at `path`, or all of the folder, with only their footers read.

    Raises:
        SamaError: there are none, one is no Parquet, or their columns differ.
    """
    if not path.exists():
        raise SamaError(f"there is no file or folder {path}")
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not files:
        raise SamaError(f"the folder {path} holds no .parquet files with scores")
    schema: pa.Schema | None = None
    sizes = []
    for file in files:
        with _opened(file) as parquet:
            found = parquet.schema_arrow.remove_metadata()
            sizes.append(parquet.metadata.num_rows)
        if schema is None:
            schema = found
        elif found.names != schema.names or found.types != schema.types:
            raise SamaError(
                f"{file} has other columns ({', '.join(found.names)}) than {files[0]} "
                f"({', '.join(schema.names)}), or of other types; select from files of one kind"
            )
    assert schema is not None
    _check_names(schema.names, files[0])
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    if starts[-1] == 0:
        raise SamaError(f"{path} has no rows to select from")
    return ScoreFiles(files, starts, schema)


def check_columns(
    scores: ScoreFiles, score: str, by_class: str | None = None, id_column: str | None = None
) -> None:
    """Refuse columns that are missing, or that hold no scores, no classes, or no line of text.

    Raises:
        SamaError: one of them.
    """
    kind = _type_of(scores, score, "--score")
    if not _is_number(kind):
        numbers = [field.name for field in scores.schema if _is_number(field.type)]
        raise SamaError(
            f"column '{score}' of {scores.files[0]} (--score) holds {kind}, which is no score; "
            f"columns of numbers are: {', '.join(numbers) or 'none'}"
        )
    if by_class is not None:
        kind = _type_of(scores, by_class, "--by-class")
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (_is_name(kind) or pa.types.is_boolean(kind)):
            raise SamaError(
                f"column '{by_class}' of {scores.files[0]} (--by-class) holds {kind}, which is no "
                "class; classes are text, whole numbers or booleans"
            )
    if id_column is not None:
        kind = _type_of(scores, id_column, "--id")
        if not _is_name(kind):
            raise SamaError(
                f"column '{id_column}' of {scores.files[0]} (--id) holds {kind}; ids are text or "
                "whole numbers"
            )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_name(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)


def _type_of(scores: ScoreFiles, column: str, option: str) -> pa.DataType:
    names = scores.schema.names
    if column not in names:
        shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
        raise SamaError(
            f"{scores.files[0]} has no column '{column}' ({option}); its columns are: {shown}"
            f"{nearest(column, names)}"
        )
    return scores.schema.field(column).type


def _check_names(names: list[str], file: Path) -> None:
    """Refuse names that SQL does not tell apart: another column would be read without a word."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other is not name:
            raise SamaError(
                f"the columns '{other}' and '{name}' of {file} have one name but for capitals; "
                "rename or leave out one of them"
            )


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SamaError(f"cannot read {file} as Parquet: {reason}") from error


@dataclass(frozen=True)
class Cut:
    """The last row that is kept, of a class or of all: rows that rank before it are kept too.

    score: its score; None where it has none, so that all rows with a score are kept. row: its
    number, counted through all files; of equal scores the rows up to it are kept.
    """

    score: float | None
    row: int

    def keeps(self, scores: np.ndarray, rows: np.ndarray, *, lowest: bool) -> np.ndarray:
        """bool (n,) for scores float64 (n,), NaN for none, of the rows with these numbers (n,)."""
        earlier = rows <= self.row
        missing = np.isnan(scores)
        if self.score is None:
            return ~missing | earlier
        better = scores < self.score if lowest else scores > self.score
        return better | ((scores == self.score) & earlier)


class Kept(NamedTuple):
    """What is kept of `seen` rows one after the other: numbers int64 (k,), and the k rows."""

    seen: int
    numbers: np.ndarray
    rows: pa.RecordBatch


# By value of the class column, None for rows without a class; None alone where there are no
# classes. A class that keeps nothing has no cut.
Cuts = dict[Any, Cut]


@dataclass(frozen=True)
class Sorting:
    """What the sort may take: MB of memory, and a folder for what does not fit in."""

    memory_mb: int
    folder: Path


def threshold_cuts(threshold: float) -> Cuts:
    """The cut that keeps every row with a score of `threshold` or better."""
    return {None: Cut(threshold, np.iinfo(np.int64).max)}


def rank_cuts(
    scores: ScoreFiles,
    score: str,
    count: int,
    sorting: Sorting,
    *,
    by_class: str | None = None,
    lowest: bool = False,
) -> Cuts:
    """The cuts that keep `count` rows with the highest (or lowest) `score`.

    by_class: a column whose classes keep their proportions, by `class_quotas`. Ties and rows
    without a score (null, NaN) are ranked as all selections rank them.

    Raises:
        SamaError: DuckDB is not installed, or the memory or the disk do not suffice.
    """
    with _connected(sorting) as database:
        values: list[Any] = [None]
        sizes = np.array([scores.rows])
        number, join = "0", ""
        if by_class is not None:
            classes = database.execute(
                f"SELECT {_name(by_class)} AS class, count(*) FROM {_READ} "
                "GROUP BY class ORDER BY class NULLS LAST",
                [_paths(scores)],
            ).fetchall()
            values, sizes = [value for value, _ in classes], np.array([rows for _, rows in classes])
            numbers = pa.table({"value": pa.array(values), "number": np.arange(len(values))})
            database.register("classes", numbers)
            number = "classes.number"
            join = f"JOIN classes ON classes.value IS NOT DISTINCT FROM files.{_name(by_class)}"
        quotas = class_quotas(sizes, count)
        last = np.cumsum(sizes) - sizes + quotas
        database.register("lasts", pa.table({"place": last[quotas > 0]}))
        found = database.execute(
            f"""
            WITH read AS (
                SELECT {number} AS class,
                    CASE WHEN isnan(CAST(files.{_name(score)} AS DOUBLE)) THEN NULL
                        ELSE CAST(files.{_name(score)} AS DOUBLE) END AS score,
                    (CAST(file_index AS BIGINT) << {_FILE_SHIFT}) + file_row_number AS row
                FROM {_READ} AS files {join}
            ), ranked AS (
                SELECT *, row_number() OVER (
                    ORDER BY class, score {"ASC" if lowest else "DESC"} NULLS LAST, row
                ) AS place FROM read
            )
            SELECT class, score, row FROM ranked WHERE place IN (SELECT place FROM lasts)
            """,
            [_paths(scores)],
        ).fetchall()
    return {
        values[position]: Cut(
            value, int(scores.starts[row >> _FILE_SHIFT]) + row % (1 << _FILE_SHIFT)
        )
        for position, value, row in found
    }


def kept_batches(
    scores: ScoreFiles,
    score: str,
    cuts: Cuts,
    *,
    by_class: str | None = None,
    lowest: bool = False,
    columns: list[str] | None = None,
) -> Iterator[Kept]:
    """The kept rows, in order, of a batch of the files at a time.

    columns: of the rows; by default all.
    """
    needed = {score, *([] if by_class is None else [by_class])}
    read = None if columns is None else sorted(needed | set(columns))
    for start, batch in scores.batches(read):
        rows = np.arange(start, start + batch.num_rows)
        values = _numbers(batch.column(score))
        if by_class is None:
            kept = cuts[None].keeps(values, rows, lowest=lowest)
        else:
            kept = _kept_by_class(values, rows, batch.column(by_class), cuts, lowest)
        chosen = batch if columns is None else batch.select(columns)
        yield Kept(len(rows), rows[kept], chosen.filter(pa.array(kept)))


def _kept_by_class(
    scores: np.ndarray, rows: np.ndarray, classes: pa.Array, cuts: Cuts, lowest: bool
) -> np.ndarray:
    if not pa.types.is_dictionary(classes.type):
        classes = classes.dictionary_encode()
    numbers = classes.indices.fill_null(len(classes.dictionary)).to_numpy()
    values = [*classes.dictionary.to_pylist(), None]
    kept = np.zeros(len(scores), dtype=bool)
    for number in np.unique(numbers):
        cut = cuts.get(values[number])
        if cut is not None:
            members = np.flatnonzero(numbers == number)
            kept[members] = cut.keeps(scores[members], rows[members], lowest=lowest)
    return kept


def _numbers(values: pa.Array) -> np.ndarray:
    """float64 (n,), NaN for null."""
    return values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)


@contextlib.contextmanager
def _connected(sorting: Sorting) -> Iterator[Any]:
    """A DuckDB connection within limits, whose failures that the user can mend say how."""
    if importlib.util.find_spec("duckdb") is None:
        raise SamaError(
            "selecting from score files takes DuckDB, which is not installed; run pip install "
            "'samacli[large]'"
        )
    import duckdb

    threads = max(1, min(os.cpu_count() or 1, sorting.memory_mb // _THREAD_MB))
    try:
        with duckdb.connect(
            config={
                "memory_limit": f"{sorting.memory_mb}MiB",
                "temp_directory": str(sorting.folder),
                "threads": threads,
                "autoinstall_known_extensions": False,
            }
        ) as connection:
            yield connection
    except duckdb.OutOfMemoryException as error:
        if "max_temp_directory_size" in str(error):
            raise SamaError(
                f"the disk of {sorting.folder.parent} is too full to sort on; make room, or put "
                "--output on another disk"
            ) from error
        raise SamaError(
            f"--memory {sorting.memory_mb} (MB) is too little for the sort; give more"
        ) from error


def _paths(scores: ScoreFiles) -> list[str]:
    """The files as DuckDB takes them, which would read a name like "a[1]" as a pattern."""
    return [re.sub(r"([\[*?])", r"[\1]", str(file)) for file in scores.files]


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
