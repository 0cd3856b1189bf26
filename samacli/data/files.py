"""Local files: CSV, TSV, JSON, JSON lines, Parquet, and Arrow as `save_to_disk` leaves it.

Everything comes back memory-mapped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.data.arrow_cache import converted
from samacli.data.confine import refuse_archive, refuse_outside
from samacli.data.csv_files import AS_USUAL, CsvStyle, read_csv
from samacli.data.json_files import read_json
from samacli.data.table import Table, first_line
from samacli.errors import SamaError, counted

_PARQUET_ROWS = 10_000

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
}


def file_kind(path: Path) -> str | None:
    """csv, tsv, json, jsonl, parquet or arrow by the file's ending; None if it is none of them."""
    name = path.name.lower()
    for packed in (".gz", ".bz2", ".zst"):
        name = name.removesuffix(packed)
    return KINDS.get(Path(name).suffix)


def is_saved_arrow(path: Path) -> bool:
    """Whether `path` is a folder that `save_to_disk` of a Dataset or DatasetDict wrote."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def read_files(paths: list[Path], kind: str | None = None, style: CsvStyle = AS_USUAL) -> Table:
    """Read one file, or the shards of one split, as one table.

    `kind` overrules the files' endings; `style` is that of CSV cells. Raises SamaError naming the
    file and, where it can be found, the line.
    """
    for path in paths:
        if not path.exists():
            raise SamaError(f"there is no file {path}")
    for path in paths:
        if path.is_file():
            refuse_archive(path)
    origin = (
        str(paths[0])
        if len(paths) == 1
        else f"{paths[0]} and {counted(len(paths) - 1, 'more file')}"
    )
    kind = kind or file_kind(paths[0])
    if kind is None:
        raise SamaError(
            f"{paths[0]} has an unknown format; use one of {', '.join(sorted(KINDS))}, "
            "or name the format with data.source"
        )
    try:
        rows = _read(paths, kind, style)
    except UnicodeDecodeError as error:
        raise SamaError(f"{origin} is not UTF-8 text; convert it to UTF-8") from error
    except PermissionError as error:
        raise SamaError(f"cannot read {error.filename or origin}: {error.strerror}") from error
    return Table(rows, origin, base=paths[0].parent, typed=kind not in ("csv", "tsv"))


def read_saved_arrow(path: Path, split: str | None = None) -> Table:
    """Open what `save_to_disk` wrote; `split` picks one out of a saved DatasetDict."""
    target = path / split if split is not None and (path / "dataset_dict.json").is_file() else path
    _check_index(target, path)
    try:
        rows = datasets.load_from_disk(str(target))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise SamaError(f"cannot read the saved dataset {target}: {first_line(error)}") from error
    if not isinstance(rows, datasets.Dataset):
        raise SamaError(f"{target} holds several splits ({', '.join(rows)}); name one of them")
    return Table(rows, str(target), base=path)


def saved_splits(path: Path) -> list[str] | None:
    """Names of the splits of a saved DatasetDict; None for a single saved Dataset."""
    index = path / "dataset_dict.json"
    if not index.is_file():
        return None
    splits = _index(index).get("splits")
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise SamaError(f"{index} does not list the splits' names; save the dataset again")
    return splits


def _check_index(folder: Path, whole: Path) -> None:
    """Refuse a saved dataset whose index names files outside of it."""
    refuse_outside(folder, whole)
    index = folder / "state.json"
    if not index.is_file():
        return
    listed = _index(index).get("_data_files")
    names = [file.get("filename") if isinstance(file, dict) else None for file in listed or []]
    for name in names:
        if not isinstance(name, str):
            raise SamaError(f"{index} does not name the data files; save the dataset again")
        refuse_outside(folder / name, whole)


def _index(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SamaError(f"cannot read {path}: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise SamaError(f"{path} is no index of a saved dataset; save the dataset again")
    return content


def _read(paths: list[Path], kind: str, style: CsvStyle) -> datasets.Dataset:
    if kind == "arrow":
        if len(paths) == 1 and paths[0].is_dir():
            return read_saved_arrow(paths[0]).rows
        return _concatenate(paths, [_read_arrow(path) for path in paths])
    if kind in ("csv", "tsv"):
        return read_csv(paths, "," if kind == "csv" else "\t", style)
    if kind == "parquet":
        return _concatenate(paths, [_read_parquet(path) for path in paths])
    return read_json(paths)


def _concatenate(paths: list[Path], parts: list[datasets.Dataset]) -> datasets.Dataset:
    if len(parts) == 1:
        return parts[0]
    try:
        return datasets.concatenate_datasets(parts)
    except ValueError as error:
        names = ", ".join(str(path) for path in paths)
        raise SamaError(
            f"{names} do not have the same columns with the same types, so they are not one split: "
            f"{first_line(error)}"
        ) from error


def _read_arrow(path: Path) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_file(str(path))
    except (OSError, pa.ArrowException) as error:
        raise SamaError(f"cannot read {path} as an Arrow stream: {first_line(error)}") from error


def _read_parquet(path: Path) -> datasets.Dataset:
    def convert(target: Path) -> None:
        try:
            with (
                pq.ParquetFile(path, memory_map=True) as source,
                pa.OSFile(str(target), "wb") as sink,
                pa.ipc.new_stream(sink, source.schema_arrow) as writer,
            ):
                for batch in source.iter_batches(_PARQUET_ROWS):
                    writer.write_batch(batch)
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            if isinstance(error, PermissionError):
                raise
            raise SamaError(f"cannot read {path} as Parquet: {first_line(error)}") from error

    return converted([path], "parquet", convert)
