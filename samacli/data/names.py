"""What the rows of a split are called: by a column of ids, or by the names of their image files."""

from __future__ import annotations

import os

import datasets

from samacli.data.split import Split
from samacli.data.table import cells
from samacli.recipe.schema import Columns, Task

_ROWS_AT_ONCE = 64  # encoded photographs are large


def row_names(split: Split, columns: Columns, task: Task) -> list[str | None] | None:
    """A name of each row (n,), as text; None where rows have nothing but their numbers.

    `data.columns.id` where it is set; else, of images in files, the paths from the folder that all
    of them lie in ("cat/17.png"), which tells them apart where file names alone would not.
    """
    if columns.id is not None:
        ids = cells(split.rows, columns.id)
        return [None if name is None else str(name) for name in ids]
    if task != "image-classification":
        return None
    raw = split.rows.select_columns([columns.image]).cast_column(
        columns.image, datasets.Image(decode=False)
    )
    paths: list[str | None] = []
    for batch in raw.with_format("arrow").iter(_ROWS_AT_ONCE):
        for chunk in batch[columns.image].chunks:
            paths += chunk.field("path").to_pylist()
    named = [path for path in paths if path]
    if not named:
        return None
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in named])
    except ValueError:  # some from the root, some not
        folder = ""
    return [os.path.relpath(path, folder or ".") if path else None for path in paths]
