"""A data set a part at a time, for work that is not to hold the whole of it, nor start again.

Part i holds rows i·size and on. Which parts are read is up to the reader, so that several processes
share them, and a process that comes later goes on with those that are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa

from samacli.data.confine import refuse_images_outside
from samacli.data.content import check_inputs, input_columns
from samacli.data.files import file_kind
from samacli.data.hub import stream_hub
from samacli.data.json_files import json_parts
from samacli.data.labels import NONE, as_known, class_ids, label_names
from samacli.data.pool import with_images
from samacli.data.sources import make_opener, match_split
from samacli.data.split import Split
from samacli.data.table import Table, check_column, first_line, quiet_datasets, stream_with_library
from samacli.errors import SamaError, nearest
from samacli.recipe.schema import Columns, Data, Task

_SAMPLED_ROWS = 64
# Our reading of CSV knows a column by its last row alone, and an Arrow file is mapped as it is.
_STREAMED_KINDS = ("parquet", "jsonl")

Wanted = Callable[[int], bool]


class Parts(Protocol):
    """A split that is read part by part.

    identity: JSON values that tell these data from others. rows: how many there are; of a stream
    None until it has been read to its end.
    """

    identity: dict[str, Any]
    rows: int | None

    def read(self, size: int, first: int, wanted: Wanted) -> Iterator[tuple[int, Table]]:
        """(number of the part, its rows), `size` of them but in the last, for every wanted part.

        From part `first` on, before which there are whole parts only; `wanted` is asked once for
        each part, in order.
        """


class MappedParts:
    """Of a memory-mapped split: parts that nobody wants cost nothing."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.rows: int | None = len(table.rows)
        self.identity: dict[str, Any] = {
            "rows": len(table.rows),
            "columns": _columns(table.rows.features),
            f"content of {_SAMPLED_ROWS} rows": _sampled(table.rows),
        }

    def read(self, size: int, first: int, wanted: Wanted) -> Iterator[tuple[int, Table]]:
        rows = self._table.rows
        for number, start in enumerate(range(0, len(rows), size)):
            if number >= first and wanted(number):
                part = rows.select(range(start, min(start + size, len(rows))))
                yield number, replace(self._table, rows=part)


class StreamedParts:
    """Of a stream of the datasets library: nothing is converted or cached, and all is passed by.

    Memory holds one part and what the library reads at a time.
    """

    def __init__(
        self,
        stream: datasets.IterableDataset,
        origin: str,
        identity: dict[str, Any],
        base: Path | None = None,
    ) -> None:
        self._stream, self._origin, self._base = stream, origin, base
        self.identity = identity
        self.rows: int | None = None

    def read(self, size: int, first: int, wanted: Wanted) -> Iterator[tuple[int, Table]]:
        with quiet_datasets():
            batches = iter(self._stream.skip(first * size).with_format("arrow").iter(size))
        number, rows = first, first * size
        while True:
            try:
                with quiet_datasets():
                    batch: pa.Table | None = next(batches, None)
            except Exception as error:  # the library wraps what went wrong in several types
                cause = error.__cause__ or error
                raise SamaError(
                    f"cannot read {self._origin} after row {rows:,}: {first_line(cause)}"
                ) from error
            if batch is None:
                break
            rows += batch.num_rows
            if wanted(number):
                yield number, Table(datasets.Dataset(batch), self._origin, base=self._base)
            number += 1
        self.rows = rows


class JsonLinesParts:
    """Of JSON lines files: nothing is converted or cached. Cells are as the mapped reader has them,
    which the library's stream would make dates and rounded numbers of."""

    def __init__(self, files: Sequence[Path], origin: str, identity: dict[str, Any]) -> None:
        self._files, self._origin = files, origin
        self.identity = identity
        self.rows: int | None = None

    def read(self, size: int, first: int, wanted: Wanted) -> Iterator[tuple[int, Table]]:
        rows = 0
        try:
            for number, part in enumerate(json_parts(self._files, size)):
                rows += part.num_rows
                if number >= first and wanted(number):
                    base = self._files[0].parent
                    yield number, Table(datasets.Dataset(part), self._origin, base=base)
        except UnicodeDecodeError as error:
            raise SamaError(f"{self._origin} is not UTF-8 text; convert it to UTF-8") from error
        self.rows = rows


def open_parts(config: Data, *, stream: bool = False) -> Parts:
    """The split that `config.train` names.

    stream: read it as a stream, from the hub or from Parquet or JSON lines files; otherwise it is
    memory-mapped, which converts (and for the hub fetches) it into the cache of the datasets
    library first, all but Arrow files and image folders.

    Raises:
        SamaError: it cannot be opened, or not as a stream.
    """
    if config.train is None:
        raise SamaError("data.train names no split; give a split's name or a file")
    if not stream:
        with quiet_datasets():
            return MappedParts(make_opener(config)(config.train, "--data"))
    named = Path(config.train if config.path is None else config.path).expanduser()
    if not named.exists() and config.path is not None:
        return _hub_stream(config, config.path, config.train)
    files = sorted(named.glob("*")) if named.is_dir() else [named]
    files = [file for file in files if file_kind(file) in _STREAMED_KINDS]
    kinds = {file_kind(file) for file in files}
    if len(kinds) != 1:
        raise SamaError(
            f"{named} cannot be read as a stream: that takes Parquet files, JSON lines files, or a "
            "data set on the hub; leave --stream out"
        )
    identity = {"files": {file.name: file.stat().st_size for file in files}}
    if kinds == {"jsonl"}:
        return JsonLinesParts(files, str(named), identity)
    stream_ = stream_with_library("parquet", files)
    return StreamedParts(stream_, str(named), identity, base=files[0].parent)


def part_split(
    table: Table, first: int, columns: Columns, task: Task, classes: Sequence[str]
) -> Split:
    """A part of a split, whose first row is row `first` of it, as a split of its own.

    labels: ids of `classes`, a trained model's, −1 where a row has none. index: rows counted
    through the whole split. content: of no meaning here.

    Raises:
        SamaError: a column is missing or of the wrong type, a text is missing, or a label is none
            of `classes`.
    """
    table = with_images(table, columns, task)
    check_inputs(table, columns, task)
    check_column(table, columns.label, "data.columns.label")
    index = np.arange(first, first + len(table.rows))
    if task == "image-classification":
        refuse_images_outside(table, columns.image, np.arange(len(table.rows)), first)
    if task == "text-classification":
        for column, _ in input_columns(columns, task):
            _check_texts(table, column, first)
    names = label_names(table, columns.label, list(classes))
    names = as_known(names, table, columns.label, classes)
    labels = class_ids(names, classes)
    unknown = np.flatnonzero((labels == NONE) & np.array([name is not None for name in names]))
    if unknown.size:
        name = names[unknown[0]]
        shown = ", ".join(list(classes)[:12]) + (" …" if len(classes) > 12 else "")
        raise SamaError(
            f"{table.origin} has the label '{name}' in row {index[unknown[0]]:,} (counted from 0, "
            f"column '{columns.label}'), which the model lacks; the labels known are: {shown}"
            f"{nearest(name, classes)}"
        )
    return Split(
        name="train",
        rows=table.rows,
        labels=labels,
        true_labels=None,
        index=index,
        content=index.astype(np.uint64),
        origin=table.origin,
    )


def _check_texts(table: Table, column: str, first: int) -> None:
    texts = table.rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    for row, text in enumerate(texts, first):
        if text is None or not text.strip():
            raise SamaError(
                f"row {row:,} (counted from 0) of {table.origin} has no text in column '{column}'; "
                "fill it in or remove it"
            )


def _hub_stream(config: Data, name: str, wanted: str) -> StreamedParts:
    splits, commit = stream_hub(name, config.config, config.revision)
    split = match_split(wanted, list(splits))
    if split is None:
        raise SamaError(
            f"hub dataset '{name}' has no split '{wanted}'; its splits are: {', '.join(splits)}"
            f"{nearest(wanted, splits)}"
        )
    identity = {"dataset": name, "config": config.config, "split": split, "commit": commit}
    return StreamedParts(splits[split], f"split '{split}' of {name}", identity)


def _columns(features: datasets.Features) -> dict[str, str]:
    return {name: str(feature) for name, feature in features.items()}


def _sampled(rows: datasets.Dataset) -> str:
    """A hash of the contents of some rows, evenly spaced, the first and the last among them."""
    digest = hashlib.blake2b(digest_size=16)
    places = np.unique(np.linspace(0, max(len(rows) - 1, 0), _SAMPLED_ROWS).astype(int))
    if len(rows):
        sample = rows.select(places).with_format("arrow")[:]
        digest.update(repr(sample.to_pylist()).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
