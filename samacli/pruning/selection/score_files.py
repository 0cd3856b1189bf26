"""Parquet files with a score a row, read as one long table that never is in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.errors import SamaError, nearest

ROWS_AT_ONCE = 1 << 16


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


def check_score_column(scores: ScoreFiles, column: str) -> None:
    """Refuse a column that is missing or holds no numbers."""
    kind = _type_of(scores, column, "--score")
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        numbers = [
            field.name
            for field in scores.schema
            if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        ]
        raise SamaError(
            f"column '{column}' of {scores.files[0]} (--score) holds {kind}, which is no score; "
            f"columns of numbers are: {', '.join(numbers) or 'none'}"
        )


def check_class_column(scores: ScoreFiles, column: str) -> None:
    """Refuse a column that is missing or whose values are not classes."""
    kind = _type_of(scores, column, "--by-class")
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
    ):
        raise SamaError(
            f"column '{column}' of {scores.files[0]} (--by-class) holds {kind}, which is no class; "
            "classes are text, whole numbers or booleans"
        )


def check_id_column(scores: ScoreFiles, column: str) -> None:
    """Refuse a column that is missing or whose values do not fit a line of text."""
    kind = _type_of(scores, column, "--id")
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    ):
        raise SamaError(
            f"column '{column}' of {scores.files[0]} (--id) holds {kind}; ids are text or whole "
            "numbers"
        )


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
