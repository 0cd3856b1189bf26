"""Two splits as one, for training on both."""

from __future__ import annotations

import datasets
import numpy as np

from samacli.data.split import Split
from samacli.recipe.schema import Columns, Task


def join(first: Split, second: Split, columns: Columns, task: Task) -> Split:
    """The rows of `first`, then those of `second`; only the columns that a model reads.

    `index` counts on: a row of `second` is its position plus the number of rows of `first`. True
    labels, given labels beside the truth, and votes are left out.
    """
    if task == "text-classification":
        names = [name for name in (columns.text, columns.text_pair) if name is not None]
    else:
        names = [columns.image]
    left, right = first.rows.select_columns(names), second.rows.select_columns(names)
    return Split(
        name=f"{first.name}+{second.name}",
        rows=datasets.concatenate_datasets([left, right.cast(left.features)]),
        labels=np.concatenate([first.labels, second.labels]),
        true_labels=None,
        index=np.arange(len(first) + len(second)),
        content=np.concatenate([first.content, second.content]),
        origin=f"{first.origin} and {second.origin}",
    )
