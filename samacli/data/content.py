"""What the rows hold: checked row by row, and hashed to find the same example twice.

One streaming pass; of every row only a few bytes stay in memory.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from samacli.data.confine import refuse_images_outside
from samacli.data.pixels import check_image, encoded_bytes
from samacli.data.table import Table, check_column
from samacli.errors import SamaError, counted
from samacli.progress import Progress
from samacli.progress import Task as ProgressTask
from samacli.recipe.schema import Columns, Task

_TEXT_ROWS = 1000
_IMAGE_ROWS = 64  # encoded photographs are large


@dataclass
class Content:
    """What a pass over n rows found.

    hashes: uint64 (n,), equal for rows with the same text (or pair) or the same image file.
    readable: bool (n,), which images can be decoded; all, unless unreadable ones may be skipped.
    note: how many cannot, and the first of them; None where all can.
    """

    hashes: np.ndarray
    readable: np.ndarray
    note: str | None = None


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


def read_content(
    table: Table,
    columns: Columns,
    task: Task,
    positions: np.ndarray,
    role: str,
    progress: Progress,
    *,
    skip: bool = False,
) -> Content:
    """Look at some rows of a table.

    positions: int64, the rows. role: the split's name, for the progress bar. skip: find the images
    that cannot be decoded, by decoding all, in place of refusing the first that is no image.
    Raises SamaError naming the first row whose text is missing or empty or whose image cannot be
    opened, and where no image can.
    """
    names = [column for column, _ in input_columns(columns, task)]
    rows = table.rows.select(positions).select_columns(names)
    with progress.task(f"checking the {role} split", len(rows)) as bar:
        if task == "image-classification":
            refuse_images_outside(table, names[0], positions)
            return _images(rows, names[0], table.origin, positions, bar, skip)
        hashes = _text_hashes(rows, names, table.origin, positions, bar)
        return Content(hashes, np.ones(len(hashes), dtype=bool))


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
            f"{empty[name]:,} of {counted(len(rows), 'row')} of {origin} "
            f"{'has' if empty[name] == 1 else 'have'} no text in column '{name}', the first is row "
            f"{row} (counted from 0); fill {'it' if empty[name] == 1 else 'them'} in or remove "
            f"{'it' if empty[name] == 1 else 'them'}"
        )
    return hashes


def _images(
    rows: datasets.Dataset,
    name: str,
    origin: str,
    positions: np.ndarray,
    bar: ProgressTask,
    skip: bool,
) -> Content:
    found = Content(np.zeros(len(rows), dtype=np.uint64), np.ones(len(rows), dtype=bool))
    raw = rows.cast_column(name, datasets.Image(decode=False)).with_format("arrow")
    first: SamaError | None = None

    def look(value: Any, row: int) -> int | SamaError:
        where = f"row {row} (counted from 0) of {origin}"
        try:
            data = encoded_bytes(value, where)
            check_image(data, value, where, whole=skip)
        except SamaError as error:
            return error
        return hash_bytes(data)

    done = 0
    # Files are read, decoded and hashed outside the interpreter's lock.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as threads:
        for batch in raw.iter(_IMAGE_ROWS):
            values = batch[name].to_pylist()
            for answer in threads.map(look, values, positions[done : done + len(values)]):
                if isinstance(answer, SamaError):
                    first = first or answer
                    if not skip:
                        raise answer
                    found.readable[done] = False
                else:
                    found.hashes[done] = answer
                done += 1
            bar.advance(len(batch))
    if first is not None:
        bad = int((~found.readable).sum())
        if bad == len(rows):
            raise first
        found.note = f"left out {bad:,} of {counted(len(rows), 'image')}; the first: {first}"
    return found


def _kind(feature: Any) -> str:
    dtype = getattr(feature, "dtype", None)
    if isinstance(dtype, str) and dtype != "struct":
        return dtype
    return type(feature).__name__
