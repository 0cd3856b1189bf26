"""A split as batches of model inputs, whatever its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from samacli.data.content import input_columns
from samacli.data.images import EncodedImages
from samacli.data.pixels import ImageStatistics, data_layout, processor_layout
from samacli.data.split import Split
from samacli.data.text import EncodedText, tokenize
from samacli.errors import SamaError
from samacli.progress import Progress
from samacli.recipe.schema import Columns, Data, Task


class Encoded(Protocol):
    """What every encoded split offers: EncodedText and EncodedImages.

    labels: int64 (n,). lengths: int (n,) tokens, or None for images. truncated: texts cut at
    max_length. `__getitems__(rows)` is one collated batch, which `make_loader` finishes where the
    split has a `finish`.
    """

    labels: np.ndarray
    truncated: int

    @property
    def lengths(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]: ...


def encode(
    split: Split,
    columns: Columns,
    task: Task,
    *,
    processor: Any = None,
    config: Data,
    statistics: ImageStatistics | None = None,
    hold: bool = True,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> EncodedText | EncodedImages:
    """Tokenise or decode a split.

    processor: the model's tokenizer, or its image processor (None: the data decide size, channels
    and statistics). statistics: of the training split, for every other split; its own are taken
    from `processor` or measured. hold: see EncodedImages. cache_dir: of tokens; default, beside
    the datasets cache.
    """
    if task == "text-classification":
        names = [column for column, _ in input_columns(columns, task)]
        tokens = tokenize(
            split.rows,
            names,
            processor,
            config.max_length,
            content=split.content,
            cache_dir=cache_dir,
            progress=progress,
            description=f"tokenising the {_long(split.name)} split",
        )
        return EncodedText(tokens, split.labels, processor)
    layout, measure = _layout(split, columns, processor, config, statistics)
    return EncodedImages(
        split.rows,
        columns.image,
        split.labels,
        layout=layout,
        measure=measure,
        memory_limit_bytes=config.memory_limit_mb << 20,
        hold=hold,
        origin=split.origin,
        index=split.index,
        progress=progress,
        description=f"decoding the {_long(split.name)} split",
    )


def _layout(
    split: Split,
    columns: Columns,
    processor: Any,
    config: Data,
    statistics: ImageStatistics | None,
) -> tuple[ImageStatistics, bool]:
    """The layout of the images, and whether mean and deviation are still to be measured."""
    if statistics is not None:
        return statistics, False
    if processor is None:
        if config.normalize == "model":
            raise SamaError(
                "data.normalize is 'model', but the model has no image processor of its own; use "
                "'train' or 'auto'"
            )
        layout = data_layout(
            split.rows, columns.image, config.image_size, split.origin, config.shortest_edge
        )
        return layout, True
    layout = processor_layout(processor, config.image_size, config.shortest_edge)
    if config.normalize == "train":
        channels = layout.channels
        return replace(layout, mean=(0.0,) * channels, std=(1.0,) * channels), True
    return layout, False


def _long(name: str) -> str:
    return "training" if name == "train" else name
