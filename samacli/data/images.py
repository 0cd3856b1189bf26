"""Images as model inputs: held or decoded as uint8, and normalised on the training device.

pixel_values = (uint8 / 255 − mean) / std        per channel
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from samacli.data.pixels import ImageStatistics, decode, undecoded_values
from samacli.progress import Progress, Silent
from samacli.progress import Task as ProgressTask

_ROWS_AT_ONCE = 256
# Channel statistics of a split that is not held are those of so many of its images: their error is
# of the order of 1 % of a deviation, and decoding ImageNet once more would take an hour.
_ROWS_MEASURED = 10_000


@functools.cache
def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(1, channels, 1, 1) on a device, brought there once and not with every batch."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


class EncodedImages:
    """A split's images as batches; map-style for torch, one item is one collated batch.

    Held as uint8 up to a limit, on any device; beyond it decoded at every access, so that memory
    is bounded by a batch. Batches are uint8 until `finish` normalises them, on the device that
    trains: a quarter of the bytes goes from worker to process and to the GPU.
    """

    truncated = 0
    lengths: np.ndarray | None = None

    def __init__(
        self,
        rows: datasets.Dataset,
        column: str,
        labels: np.ndarray,
        *,
        layout: ImageStatistics,
        measure: bool,
        memory_limit_bytes: int,
        hold: bool = True,
        origin: str = "the data",
        index: np.ndarray | None = None,
        progress: Progress | None = None,
        description: str = "decoding",
    ) -> None:
        """rows: with an Image `column`; labels: int64 (n,); index: rows' positions in the input.

        layout: size, channels and resizing; its mean and std too unless `measure`, which takes them
        from these images, or from 10,000 of them spread evenly where they are not held. hold:
        False to decode at every access whatever the limit. Raises SamaError naming the first image
        that cannot be decoded.
        """
        self._images = rows.select_columns([column]).cast_column(
            column, datasets.Image(decode=False)
        )
        self._column = column
        self._origin = origin
        self._index = np.arange(len(rows)) if index is None else index
        self.labels = labels
        self.statistics = layout
        height, width = layout.size
        bytes_needed = len(rows) * layout.channels * height * width
        held = hold and bytes_needed <= memory_limit_bytes
        self._crop_seed: int | None = None
        self._epoch = 0
        measured = np.arange(len(rows))
        if not held and len(rows) > _ROWS_MEASURED:
            measured = np.linspace(0, len(rows) - 1, _ROWS_MEASURED).round().astype(np.int64)
        work = len(rows) * held + len(measured) * measure
        with (progress or Silent()).task(description, work) as bar:
            self._pixels = self._decode_all(bar) if held else None
            if measure:
                mean, std = self._measure(measured, bar)
                self.statistics = replace(layout, mean=mean, std=std)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Whether the images are held as uint8."""
        return self._pixels is not None

    @property
    def held_bytes(self) -> int:
        """What the held images take; 0 where they are decoded at every access."""
        return 0 if self._pixels is None else self._pixels.numel()

    def keep_on(self, device: torch.device) -> None:
        """Move held images to a device, where batches are gathered from then on."""
        if self._pixels is not None:
            self._pixels = self._pixels.to(device)

    def randomly_cropped(self, seed: int) -> EncodedImages:
        """The same images, a random-resized crop of each at every access; they must not be held.

        Which crop is a function of (seed, epoch, row), so the number of workers changes nothing.
        """
        assert self._pixels is None, "held images have lost what is outside their middle"
        view = copy.copy(self)
        view._crop_seed = seed
        return view

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: other random crops."""
        self._epoch = epoch

    def uint8_batch(self, rows: Sequence[int]) -> Tensor:
        """uint8 (len(rows), channels, height, width), before normalisation."""
        if self._pixels is not None:
            wanted = torch.as_tensor(np.asarray(rows, dtype=np.int64))
            if self._pixels.is_cuda:  # from pinned memory, so that the host goes on at once
                wanted = wanted.pin_memory().to(self._pixels.device, non_blocking=True)
            return self._pixels[wanted]
        values = self._images[[int(row) for row in rows]][self._column]
        pixels = [self._decode(value, int(row)) for row, value in zip(rows, values, strict=True)]
        return torch.from_numpy(np.stack(pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """float32 of the same shape, on the same device: (uint8 / 255 − mean) / std."""
        mean = _by_channel(self.statistics.mean, pixels.device)
        std = _by_channel(self.statistics.std, pixels.device)
        return (pixels.float() / 255 - mean) / std

    def finish(
        self, batch: dict[str, Tensor], device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """A batch with `pixel_values` float32, normalised on `device` (None: where they are)."""
        pixels = batch["pixel_values"]
        if device is not None:
            pixels = pixels.to(device, non_blocking=True)
        return {**batch, "pixel_values": self.normalize(pixels)}

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`pixel_values` uint8 (n, C, H, W), `labels` int64 (n,), `index` int64 (n,)."""
        wanted = np.asarray(rows, dtype=np.int64)
        return {
            "pixel_values": self.uint8_batch(rows),
            "labels": torch.from_numpy(self.labels[wanted]),
            "index": torch.from_numpy(wanted),
        }

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([row]).items()}

    def _decode_all(self, bar: ProgressTask) -> Tensor:
        height, width = self.statistics.size
        pixels = np.empty(
            (len(self._images), self.statistics.channels, height, width), dtype=np.uint8
        )
        for row, value in enumerate(undecoded_values(self._images, self._column)):
            pixels[row] = self._decode(value, row)
            bar.advance()
        return torch.from_numpy(pixels)

    def _decode(self, value: Any, row: int) -> np.ndarray:
        where = f"row {self._index[row]} (counted from 0) of {self._origin}"
        generator = None
        if self._crop_seed is not None:
            generator = np.random.default_rng([self._crop_seed, self._epoch, row])
        return decode(value, self.statistics, where, generator)

    def _measure(
        self, measured: np.ndarray, bar: ProgressTask
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels of some rows, in float64."""
        channels = self.statistics.channels
        total, square, count = np.zeros(channels), np.zeros(channels), 0
        for start in range(0, len(measured), _ROWS_AT_ONCE):
            rows = measured[start : start + _ROWS_AT_ONCE]
            pixels = self.uint8_batch(rows.tolist()).double() / 255
            total += pixels.sum(dim=(0, 2, 3)).numpy()
            square += pixels.square().sum(dim=(0, 2, 3)).numpy()
            count += pixels.numel() // channels
            bar.advance(len(rows))
        mean = total / count
        std = np.sqrt(np.maximum(square / count - mean**2, 0))
        # A channel that never varies is left unscaled: it says nothing at any scale.
        std[std < 1e-6] = 1.0
        return tuple(map(float, mean)), tuple(map(float, std))
