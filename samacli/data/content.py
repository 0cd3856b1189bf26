"""What the rows hold: checked row by row, and hashed to find the same example twice.

One streaming pass; of every row only 8 bytes stay in memory.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from samacli.data.confine import inside
from samacli.data.pixels import encoded_bytes, read_mode
from samacli.data.table import Table, check_column
from samacli.errors import SamaError
from samacli.progress import Progress
from samacli.progress import Task as ProgressTask
from samacli.recipe.schema import Columns, Task

_TEXT_ROWS = 1000
_IMAGE_ROWS = 64  # encoded photographs are large


def input_columns(columns: Columns, task: Task) -> list[tuple[str, str]]:
    """(column, option that names it) of the model's inputs."""
    if task == "image-classification":
        return [(columns.image, "data.columns.image")]
    pair = [(columns.text_pair, "data.columns.text_pair")] if columns.text_pair else []
    return [(columns.text, "data.columns.text"), *pair]


def check_inputs(table: Table, columns: Columns, task: Task) -> None:
    """Refuse a table without the input columns, or with inputs of the wrong type."""
    for column, option in input_columns(columns, task):
        check_column(table, column, option)
        feature = table.rows.features[column]
        if task == "image-classification":
            if not isinstance(feature, datasets.Image):
                raise SamaError(
                    f"column '{column}' of {table.origin} holds {_kind(feature)}, not images; "
                    f"name the image column with {option}"
                )
        elif getattr(feature, "dtype", None) not in ("string", "large_string"):
            raise SamaError(
                f"column '{column}' of {table.origin} holds {_kind(feature)}, not text; "
                f"name the text column with {option}"
            )


def content_hashes(
    table: Table,
    columns: Columns,
    task: Task,
    positions: np.ndarray,
    role: str,
    progress: Progress,
) -> np.ndarray:
    """uint64 (len(positions),): equal for rows with the same text (or pair) or the same image file.

    positions: int64, rows of the table to look at. role: the split's name, for the progress bar.
    Raises SamaError naming the first row whose text is missing or empty or whose image cannot be
    opened.
    """
    names = [column for column, _ in input_columns(columns, task)]
    rows = table.rows.select(positions).select_columns(names)
    with progress.task(f"checking the {role} split", len(rows)) as bar:
        if task == "image-classification":
            return _image_hashes(rows, names[0], table, positions, bar)
        return _text_hashes(rows, names, table.origin, positions, bar)


def hash_bytes(*parts: bytes) -> int:
    """64-bit hash of the parts, with their boundaries."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")


def _text_hashes(
    rows: datasets.Dataset, names: list[str], origin: str, positions: np.ndarray, bar: ProgressTask
) -> np.ndarray:
    hashes = np.empty(len(rows), dtype=np.uint64)
    empty = dict.fromkeys(names, 0)
    first: dict[str, int] = {}
    done = 0
    for batch in rows.with_format("arrow").iter(_TEXT_ROWS):
        texts = [batch[name].to_pylist() for name in names]
        for name, column in zip(names, texts, strict=True):
            for offset, text in enumerate(column):
                if text is None or not text.strip():
                    empty[name] += 1
                    first.setdefault(name, int(positions[done + offset]))
        for line in zip(*texts, strict=True):
            parts = [(text or "").encode() for text in line]
            hashes[done] = hash_bytes(*parts)
            done += 1
        bar.advance(len(batch))
    for name, row in first.items():
        raise SamaError(
            f"{empty[name]:,} of {len(rows):,} rows of {origin} have no text in column '{name}', "
            f"the first is row {row} (counted from 0); fill them in or remove them"
        )
    return hashes


def _image_hashes(
    rows: datasets.Dataset, name: str, table: Table, positions: np.ndarray, bar: ProgressTask
) -> np.ndarray:
    hashes = np.empty(len(rows), dtype=np.uint64)
    raw = rows.cast_column(name, datasets.Image(decode=False)).with_format("arrow")
    done = 0
    for batch in raw.iter(_IMAGE_ROWS):
        for value in batch[name].to_pylist():
            where = f"row {positions[done]} (counted from 0) of {table.origin}"
            if table.confined:
                _refuse_outside(value, table, where)
            data = encoded_bytes(value, where)
            read_mode(data, value, where)
            hashes[done] = hash_bytes(data)
            done += 1
        bar.advance(len(batch))
    return hashes


def _refuse_outside(value: Any, table: Table, where: str) -> None:
    """Refuse an image value whose file is a URL or lies outside the table's folder."""
    if not value or value.get("bytes") is not None or value.get("path") is None:
        return
    path = value["path"]
    if "\0" in path or "://" in path or "::" in path:
        raise SamaError(
            f"{where} names the image {path!r}, which is no file; images are never fetched: "
            "download them, and give their paths"
        )
    roots = [] if table.base is None else [table.base]
    if not inside(Path(path), roots):
        folder = f"outside {table.base}" if roots else "outside the dataset's own files"
        raise SamaError(
            f"{where} names the image {path}, which lies {folder}; if that is meant, name the "
            "folder that holds all images with data.image_root"
        )


def _kind(feature: Any) -> str:
    dtype = getattr(feature, "dtype", None)
    if isinstance(dtype, str) and dtype != "struct":
        return dtype
    return type(feature).__name__
