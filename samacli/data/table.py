"""One split as its source gives it, before anything is dropped, carved or labelled."""

from __future__ import annotations

import glob
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import datasets
import pyarrow as pa
from datasets.utils import logging as datasets_logging

from samacli.errors import SamaError, nearest


@dataclass
class Table:
    """Rows as read.

    `origin` names them in messages ("train.csv", "split 'train' of ag_news"); `base` is the
    folder that relative image paths start from. Rows that are `confined` may name images in `base`
    only (`samacli.data.confine`); those that a program hands over need not be. A source whose own
    format fixes where the given and the true label stand (WRENCH) names the true column in
    `true_label`, and the column of the labelling functions' votes (a list of class ids, −1 for
    none) in `votes`. typed: whether its format tells numbers from text, which CSV does not. notes:
    plain facts about how it was read.
    """

    rows: datasets.Dataset
    origin: str
    base: Path | None = None
    true_label: str | None = None
    votes: str | None = None
    confined: bool = True
    typed: bool = True
    notes: list[str] = field(default_factory=list)


def check_column(table: Table, column: str, option: str) -> None:
    """Refuse a column that the table lacks, listing those it has."""
    names = table.rows.column_names
    if column in names:
        return
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    raise SamaError(
        f"{table.origin} has no column '{column}' ({option}); its columns are: {shown}"
        f"{nearest(column, names)}"
    )


@contextmanager
def utf8_or_refused(table: Table) -> Iterator[None]:
    """Arrow keeps bytes that are not UTF-8 without a word; they show when a text is looked at."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SamaError(f"{table.origin} is not UTF-8 text; convert it to UTF-8") from error


def cache_root() -> Path:
    """Where converted files and tokens are cached: beside the datasets library's own cache."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "samacli"


def open_text(path: Path) -> TextIO:
    """A text file, packed or not, read as UTF-8 with its line ends as they are."""
    stream = pa.input_stream(str(path), compression="detect")
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def stream_with_library(builder: str, paths: list[Path]) -> datasets.IterableDataset:
    """The rows of local files through `datasets.load_dataset`, as they are read."""
    for path in paths:
        if path.stat().st_size == 0:
            raise SamaError(f"{path} is empty")
    # The library takes patterns; a file named "a[1].json" means itself.
    names = [glob.escape(str(path.resolve())) for path in paths]
    with quiet_datasets():
        return datasets.load_dataset(
            builder, data_files={"train": names}, split="train", streaming=True
        )


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bars or log lines of the datasets library inside; as they were outside."""
    bars = datasets.are_progress_bars_disabled()
    level = datasets_logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets_logging.set_verbosity(datasets_logging.CRITICAL)
    try:
        yield
    finally:
        datasets_logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


def cells(rows: datasets.Dataset, column: str) -> list[Any]:
    """Every value of a column. The library's own decoder of mixed values rounds
    floats, and fails at whole numbers of 20 digits."""
    if not is_json(rows.features[column]):
        return list(rows[column])
    stored = rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    return [None if value is None else json.loads(value) for value in stored]


def is_json(feature: object) -> bool:
    return type(feature).__name__ == "Json"  # a type of datasets 5: values of mixed types
