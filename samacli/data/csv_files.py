"""CSV and TSV, converted once into memory-mapped Arrow.

Not by pandas, which reads the texts "None", "NA" and "null" as missing; and a column whose type
changes far down the file is read again as what it is, not refused.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.csv

from samacli.data.table import cache_root, first_line, open_text
from samacli.errors import SamaError

_VERSION = "1"  # part of the cache key; raise it when the conversion changes
_BLOCK_BYTES = 16 << 20


def read_csv(path: Path, delimiter: str) -> datasets.Dataset:
    """Convert once into an Arrow stream in the cache, keyed by the file's content."""
    if path.stat().st_size == 0:
        raise SamaError(f"{path} is empty")
    cached = cache_root() / f"csv-{_content_key(path, _VERSION, delimiter)}.arrow"
    if not cached.exists():
        _convert_csv(path, delimiter, cached)
    try:
        return datasets.Dataset.from_file(str(cached))
    except (ValueError, pa.ArrowException) as error:  # a header that no table can have
        raise SamaError(f"cannot read {path} as CSV: {first_line(error)}") from error


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
    if any("\0" in name for name in schema.names):
        raise SamaError(f"{path} has a null character in its header; save it as UTF-8 text")
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
    if re.search(r"Expected \d+ columns, got \d+", message):
        with open_text(path) as text:
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
