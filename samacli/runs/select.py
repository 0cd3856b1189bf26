"""`sama select`: rows to keep out of score files of any length.

score files → cut (an out-of-core sort) → keep.txt, kept rows
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samacli.errors import SamaError
from samacli.export.kept import KEEP_FILE, KEPT_FOLDER, KeepList, KeptRows
from samacli.export.metrics import write_metrics
from samacli.export.score_shards import check_finished
from samacli.progress import Progress, Silent
from samacli.pruning.large import (
    MEMORY_MB,
    SORT_BYTES_A_ROW,
    ScoreFiles,
    Sorting,
    check_columns,
    kept_batches,
    open_score_files,
    rank_cuts,
    threshold_cuts,
)
from samacli.pruning.selection import keep_count
from samacli.store.output import METRICS_FILE, check_output, check_space, staged

INDEX_COLUMN = "index"  # of our own score files: a row's position in the data that were scored
_LEAST_MEMORY_MB = 64
_BYTES_A_LINE = 12


@dataclass(frozen=True)
class SelectResult:
    """Rows there were, rows kept, and what was written of them."""

    output: Path
    rows: int
    kept: int
    metrics: dict[str, Any]


def select(
    path: Path,
    output: Path,
    *,
    score: str,
    keep: float | None = None,
    threshold: float | None = None,
    by_class: str | None = None,
    lowest: bool = False,
    id_column: str | None = None,
    write_rows: bool = False,
    memory_mb: int = MEMORY_MB,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SelectResult:
    """Keep rows by a score from a Parquet file, or from a folder of them in the order of names.

    Either `keep`, a fraction (up to 1) or a count, with the classes of the column `by_class` in
    their proportions; or `threshold`, a score. From the highest down, or with `lowest` from the
    lowest up. Ties go to the earlier row; rows without a score (null, NaN) come after all others.

    `output` gets `keep.txt`, in the order of the rows: the values of `id_column`, by default of
    `index` where the files have it and else row numbers counted from 0 through all files; with
    `write_rows` the rows too, in `kept/`. What is in memory at one time does not grow with the
    rows; `memory_mb` is for the sort.

    Raises:
        SamaError: anything wrong with the files, the options, or the room on the disk.
    """
    progress = progress or Silent()
    started = time.perf_counter()
    check_output(output, overwrite=overwrite)
    if (keep is None) == (threshold is None):
        raise SamaError("give either --keep (a fraction or a count) or --threshold (a score)")
    if threshold is not None and by_class is not None:
        raise SamaError("--by-class shares out a number of rows; give --keep, not --threshold")
    if memory_mb < _LEAST_MEMORY_MB:
        raise SamaError(f"--memory {memory_mb} (MB) is too little; give {_LEAST_MEMORY_MB} or more")
    if path.is_dir():
        check_finished(path)
    files = open_score_files(path)
    check_columns(files, score, by_class, id_column)
    if id_column is None and INDEX_COLUMN in files.schema.names:
        id_column = INDEX_COLUMN
    count = None
    if keep is not None:
        count = keep_count(keep, files.rows, of=f"{path} has")
    _check_room(files, output, count, write_rows)

    with staged(output, overwrite=overwrite) as stage:
        if threshold is not None:
            cuts = threshold_cuts(threshold)
        else:
            assert count is not None
            folder = stage / "sort"
            progress.note(f"sorting {files.rows:,} rows with {memory_mb:,} MB of memory")
            cuts = rank_cuts(
                files, score, count, Sorting(memory_mb, folder), by_class=by_class, lowest=lowest
            )
            if folder.exists():
                folder.rmdir()
        columns = None if write_rows else [] if id_column is None else [id_column]
        with contextlib.ExitStack() as open_files:
            task = open_files.enter_context(progress.task("writing what is kept", files.rows))
            names = open_files.enter_context(KeepList(stage / KEEP_FILE))
            rows = None
            if write_rows:
                rows = open_files.enter_context(KeptRows(stage / KEPT_FOLDER, files.schema))
            for kept in kept_batches(
                files, score, cuts, by_class=by_class, lowest=lowest, columns=columns
            ):
                ids = kept.numbers if id_column is None else kept.rows.column(id_column)
                names.add(ids.tolist())
                if rows is not None:
                    rows.add(kept.rows)
                task.advance(kept.seen)
        written = names.written
        metrics = {
            "workflow": "select",
            "scores": str(path),
            "score": score,
            "end": "lowest" if lowest else "highest",
            "keep": keep,
            "threshold": threshold,
            "by_class": by_class,
            "id": id_column,
            "rows": {"all": files.rows, "kept": written},
            "memory_mb": memory_mb,
            "seconds": time.perf_counter() - started,
        }
        write_metrics(stage / METRICS_FILE, metrics)
    if written == 0:
        progress.warn(f"no row has a '{score}' of {threshold:g} or better: {KEEP_FILE} is empty")
    return SelectResult(output, files.rows, written, metrics)


def _check_room(files: ScoreFiles, output: Path, count: int | None, write_rows: bool) -> None:
    kept = files.rows if count is None else count
    needed = kept * _BYTES_A_LINE
    if count is not None:
        needed += files.rows * SORT_BYTES_A_ROW
    if write_rows:
        needed += files.bytes * kept // files.rows
    check_space(output.parent, needed, f"selecting from {files.rows:,} rows")
