"""Local files: CSV, TSV, JSON, JSON lines, Parquet, and Arrow as `save_to_disk` leaves it.

Everything comes back memory-mapped. CSV is converted here rather than by pandas, because pandas
reads the texts "None", "NA" and "null" as missing, and because a column whose type changes far
down the file has to be read again as what it is, not refused.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.csv

from samacli.data.table import Table, cache_root, quiet_datasets
from samacli.errors import SamaError

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
_CSV_VERSION = "1"  # part of the cache key; raise it when the conversion changes
_BLOCK_BYTES = 16 << 20


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


def read_files(paths: list[Path], kind: str | None = None) -> Table:
    """Read one file, or the shards of one split, as one table.

    `kind` overrules the files' endings. Raises SamaError naming the file and, where it can be
    found, the line.
    """
    for path in paths:
        if not path.exists():
            raise SamaError(f"there is no file {path}")
    origin = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more files"
    kind = kind or file_kind(paths[0])
    if kind is None:
        raise SamaError(
            f"{paths[0]} has an unknown format; use one of {', '.join(sorted(KINDS))}, "
            "or name the format with data.source"
        )
    try:
        rows = _read(paths, kind)
    except UnicodeDecodeError as error:
        raise SamaError(f"{origin} is not UTF-8 text; convert it to UTF-8") from error
    return Table(rows, origin, base=paths[0].parent)


def read_saved_arrow(path: Path, split: str | None = None) -> Table:
    """Open what `save_to_disk` wrote; `split` picks one out of a saved DatasetDict."""
    target = path / split if split is not None and (path / "dataset_dict.json").is_file() else path
    try:
        rows = datasets.load_from_disk(str(target))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise SamaError(f"cannot read the saved dataset {target}: {_first_line(error)}") from error
    if not isinstance(rows, datasets.Dataset):
        raise SamaError(f"{target} holds several splits ({', '.join(rows)}); name one of them")
    return Table(rows, str(target), base=path)


def saved_splits(path: Path) -> list[str] | None:
    """Names of the splits of a saved DatasetDict; None for a single saved Dataset."""
    index = path / "dataset_dict.json"
    return list(json.loads(index.read_text())["splits"]) if index.is_file() else None


def _read(paths: list[Path], kind: str) -> datasets.Dataset:
    if kind == "arrow":
        if len(paths) == 1 and paths[0].is_dir():
            return read_saved_arrow(paths[0]).rows
        return _concatenate([_read_arrow(path) for path in paths])
    if kind in ("csv", "tsv"):
        return _concatenate([_read_csv(path, "," if kind == "csv" else "\t") for path in paths])
    return _read_with_library(paths, "parquet" if kind == "parquet" else "json")


def _concatenate(parts: list[datasets.Dataset]) -> datasets.Dataset:
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _read_arrow(path: Path) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_file(str(path))
    except (OSError, pa.ArrowException) as error:
        raise SamaError(f"cannot read {path} as an Arrow stream: {_first_line(error)}") from error


def _read_with_library(paths: list[Path], builder: str) -> datasets.Dataset:
    """JSON and Parquet through `datasets.load_dataset`, which converts once and memory-maps."""
    for path in paths:
        if path.stat().st_size == 0:
            raise SamaError(f"{path} is empty")
    # The library takes patterns; a file named "a[1].json" means itself.
    files = [glob.escape(str(path.resolve())) for path in paths]
    try:
        with quiet_datasets():
            return datasets.load_dataset(builder, data_files={"train": files}, split="train")
    except UnicodeDecodeError:
        raise
    except Exception as error:  # the library wraps what went wrong in several of its own types
        if builder == "json":
            for path in paths:
                _name_bad_json_line(path)
        cause = error.__cause__ or error
        raise SamaError(
            f"cannot read {paths[0]} as {'Parquet' if builder == 'parquet' else 'JSON'}: "
            f"{_first_line(cause)}"
        ) from error


def _name_bad_json_line(path: Path) -> None:
    """Raise SamaError for the first line of `path` that is no JSON object; return if all are."""
    with open(path, encoding="utf-8-sig") as lines:
        start = lines.read(1)
        lines.seek(0)
        if start == "[":
            try:
                json.load(lines)
            except json.JSONDecodeError as error:
                raise SamaError(
                    f"{path} is not valid JSON: {error.msg} in line {error.lineno}"
                ) from error
            return
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise SamaError(
                    f"{path} is not valid JSON: {error.msg} in line {number}"
                ) from error
            if not isinstance(value, dict):
                raise SamaError(
                    f"{path}: line {number} is no JSON object; write one row a line, "
                    '{"text": …, "label": …}'
                )


def _read_csv(path: Path, delimiter: str) -> datasets.Dataset:
    """Convert once into an Arrow stream in the cache, keyed by the file's content."""
    if path.stat().st_size == 0:
        raise SamaError(f"{path} is empty")
    cached = cache_root() / f"csv-{_content_key(path, _CSV_VERSION, delimiter)}.arrow"
    if not cached.exists():
        _convert_csv(path, delimiter, cached)
    return datasets.Dataset.from_file(str(cached))


def _convert_csv(path: Path, delimiter: str, target: Path) -> None:
    """Stream `path` into the Arrow file `target`.

    Types are inferred from the first block. A later value that contradicts them widens that
    column (integer, then float, then text) and starts the file again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix="csv-", suffix=".partial")
    os.close(handle)
    block_bytes = _BLOCK_BYTES
    types: dict[str, pa.DataType] | None = None
    try:
        while True:
            try:
                types = types or _first_types(path, delimiter, block_bytes)
                _write_csv(path, delimiter, types, block_bytes, partial)
                break
            except pa.ArrowInvalid as error:
                message = str(error)
                if "straddling" in message and block_bytes < path.stat().st_size * 2:
                    block_bytes *= 4
                elif types is None or not _widen(message, types):
                    raise SamaError(_csv_sentence(path, delimiter, message)) from error
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)


def _open_csv(
    path: Path, delimiter: str, types: dict[str, pa.DataType] | None, block_bytes: int
) -> pa.csv.CSVStreamingReader:
    return pa.csv.open_csv(
        pa.input_stream(str(path), compression="detect"),
        read_options=pa.csv.ReadOptions(block_size=block_bytes),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=types),
    )


def _first_types(path: Path, delimiter: str, block_bytes: int) -> dict[str, pa.DataType]:
    """Numbers as numbers, all else as text: a date or "true" comes back as it was written."""
    with _open_csv(path, delimiter, None, block_bytes) as reader:
        schema = reader.schema
    doubled = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if doubled:
        raise SamaError(f"{path} has two columns named '{doubled[0]}'; rename one")
    return {
        field.name: field.type
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        else pa.string()
        for field in schema
    }


def _write_csv(
    path: Path, delimiter: str, types: dict[str, pa.DataType], block_bytes: int, target: str
) -> None:
    with (
        _open_csv(path, delimiter, types, block_bytes) as reader,
        pa.OSFile(target, "wb") as sink,
        pa.ipc.new_stream(sink, reader.schema) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)


def _widen(message: str, types: dict[str, pa.DataType]) -> bool:
    """Widen the column that a conversion error names; False if the error is another one."""
    found = re.search(
        r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (\w+)", message
    )
    if not found or found[2] == "string":
        return False
    name = list(types)[int(found[1])]
    types[name] = pa.float64() if found[2] == "int64" else pa.string()
    return True


def _csv_sentence(path: Path, delimiter: str, message: str) -> str:
    if "UTF8" in message:
        return f"{path} is not UTF-8 text; convert it to UTF-8"
    if "Empty CSV" in message:
        return f"{path} is empty"
    if re.search(r"Expected \d+ columns, got \d+", message) and path.suffix.lower() in KINDS:
        with open(path, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter)
            header = next(reader)
            for cells in reader:
                if cells and len(cells) != len(header):
                    return (
                        f"{path}: line {reader.line_num} has {len(cells)} cells where the header "
                        f"has {len(header)}; quote cells that hold the separator"
                    )
    return f"cannot read {path} as CSV: {message.splitlines()[0]}"


def _content_key(path: Path, *parts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (*parts, path.suffix):
        digest.update(part.encode() + b"\0")
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
