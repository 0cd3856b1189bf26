"""When memory is short: a batch in several parts, each with its share of the batch's loss."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch
from torch import Tensor

from samacli.training.objective import Batch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed, on the device or (which torch tells by its words) the CPU."""
    words = ("can't allocate memory", "not enough memory")  # Linux, Windows
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def free_memory(device: torch.device) -> None:
    """Return what nobody holds any more to where the next allocation is made."""
    gc.collect()
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def in_parts(batch: Batch, number: int, counted: Tensor) -> Iterator[tuple[Batch, float]]:
    """A batch of n rows in up to `number` parts, each with its share of the rows that count.

    counted: bool (n,). The parts' mean losses, each times its share, sum to the batch's. Parts
    without a row that counts are left out, unless none has any.
    """
    rows = len(counted)
    if number == 1:
        yield batch, 1.0
        return
    total = int(counted.sum())
    size = -(-rows // number)
    for first in range(0, rows, size):
        inside = slice(first, first + size)
        share = int(counted[inside].sum()) / total if total else len(counted[inside]) / rows
        if share > 0:
            yield {name: _rows(value, inside, rows) for name, value in batch.items()}, share


def _rows(value: object, inside: slice, rows: int) -> object:
    whole = isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows
    return value[inside] if whole and isinstance(value, Tensor) else value
