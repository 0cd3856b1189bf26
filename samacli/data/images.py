"""Images as model inputs: decoded, brought to one size and channel count, normalised.

pixel_values = (uint8 / 255 − mean) / std        per channel
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from samacli.errors import SamaError
from samacli.progress import Progress, Silent
from samacli.progress import Task as ProgressTask

_CHUNK_ROWS = 256
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})


@dataclass(frozen=True)
class ImageStatistics:
    """How an image becomes the model's input; one for all splits, saved beside the model.

    mean, std: per channel, in units of the full range (0 to 1). size: (height, width) in pixels.
    shortest_edge: None stretches an image to the size; a number resizes its shorter side to that
    many pixels and cuts the size out of the middle. resample: PIL's number of the filter.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    shortest_edge: int | None = None
    resample: int = int(Image.Resampling.BILINEAR)

    @property
    def channels(self) -> int:
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageStatistics:
        lists = {name: tuple(values[name]) for name in ("mean", "std", "size")}
        return cls(**{**values, **lists})


class EncodedImages:
    """A split's images as batches; map-style for torch, one item is one collated batch.

    Held as uint8 in memory up to a limit, decoded at every access beyond. `statistics` None:
    computed from these images in one pass.
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
        origin: str = "the data",
        index: np.ndarray | None = None,
        progress: Progress | None = None,
        description: str = "decoding",
    ) -> None:
        """rows: with an Image `column`; labels: int64 (n,); index: rows' positions in the input.

        layout: size, channels and resizing; its mean and std too unless `measure`, which takes them
        from these images. Raises SamaError naming the first image that cannot be decoded.
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
        held = bytes_needed <= memory_limit_bytes
        with (progress or Silent()).task(description, len(rows) * (held + measure)) as bar:
            self._pixels = self._decode_all(bar) if held else None
            if measure:
                mean, std = self._measure(bar)
                self.statistics = replace(layout, mean=mean, std=std)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Whether the images are held as uint8."""
        return self._pixels is not None

    def uint8_batch(self, rows: Sequence[int]) -> Tensor:
        """uint8 (len(rows), channels, height, width), before normalisation."""
        if self._pixels is not None:
            return self._pixels[torch.as_tensor(np.asarray(rows, dtype=np.int64))]
        values = self._images[[int(row) for row in rows]][self._column]
        pixels = [self._decode(value, int(row)) for row, value in zip(rows, values, strict=True)]
        return torch.from_numpy(np.stack(pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """float32 of the same shape, on the same device: (uint8 / 255 − mean) / std."""
        shape = (1, self.statistics.channels, 1, 1)
        mean = torch.tensor(self.statistics.mean, device=pixels.device).view(shape)
        std = torch.tensor(self.statistics.std, device=pixels.device).view(shape)
        return (pixels.float() / 255 - mean) / std

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`pixel_values` float32 (n, C, H, W), `labels` int64 (n,), `index` int64 (n,)."""
        wanted = np.asarray(rows, dtype=np.int64)
        return {
            "pixel_values": self.normalize(self.uint8_batch(rows)),
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
        for row, value in enumerate(_values(self._images, self._column)):
            pixels[row] = self._decode(value, row)
            bar.advance()
        return torch.from_numpy(pixels)

    def _decode(self, value: Any, row: int) -> np.ndarray:
        where = f"row {self._index[row]} (counted from 0) of {self._origin}"
        return decode(value, self.statistics, where)

    def _measure(self, bar: ProgressTask) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels, in float64."""
        channels = self.statistics.channels
        total, square, count = np.zeros(channels), np.zeros(channels), 0
        for start in range(0, len(self), _CHUNK_ROWS):
            rows = range(start, min(start + _CHUNK_ROWS, len(self)))
            pixels = self.uint8_batch(rows).double() / 255
            total += pixels.sum(dim=(0, 2, 3)).numpy()
            square += pixels.square().sum(dim=(0, 2, 3)).numpy()
            count += pixels.numel() // channels
            bar.advance(len(rows))
        mean = total / count
        std = np.sqrt(np.maximum(square / count - mean**2, 0))
        # A channel that never varies is left unscaled: it says nothing at any scale.
        std[std < 1e-6] = 1.0
        return tuple(map(float, mean)), tuple(map(float, std))


def processor_layout(processor: Any, size: int | None) -> ImageStatistics:
    """The layout that a transformers image processor asks for; `size` overrules its side."""
    given = {key: value for key, value in dict(processor.size or {}).items() if value is not None}
    crop = dict(getattr(processor, "crop_size", None) or {})
    edge: int | None = None
    if "height" in given:
        sides = (int(given["height"]), int(given["width"]))
    else:
        edge = int(given.get("shortest_edge", 224))
        sides = (edge, edge)
        crop_pct = getattr(processor, "crop_pct", None)
        if getattr(processor, "do_center_crop", False) and crop.get("height"):
            sides = (int(crop["height"]), int(crop["width"]))
        elif crop_pct and edge < 384:  # ConvNeXt: enlarged by 1/crop_pct, then cut
            edge = int(edge / crop_pct)
    if size is not None:
        edge = None if edge is None else round(edge * size / min(sides))
        sides = (size, size)
    normalised = getattr(processor, "do_normalize", True) and processor.image_mean is not None
    resample = getattr(processor, "resample", None)
    return ImageStatistics(
        mean=tuple(map(float, processor.image_mean)) if normalised else (0.0, 0.0, 0.0),
        std=tuple(map(float, processor.image_std)) if normalised else (1.0, 1.0, 1.0),
        size=sides,
        shortest_edge=None if edge is None else max(edge, *sides),
        resample=int(Image.Resampling.BILINEAR if resample is None else resample),
    )


def data_layout(
    rows: datasets.Dataset, column: str, size: int | None, origin: str
) -> ImageStatistics:
    """The layout of the data themselves: the first image's size, one channel if all are grey.

    Mean 0 and deviation 1 stand for "not measured yet". Reads the header of every image until one
    is in colour.
    """
    raw = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    sides = _upright_size(raw[0][column], origin) if size is None else (size, size)
    grey = all(
        _mode_of_row(value, row, origin) in _GREY_MODES
        for row, value in enumerate(_values(raw, column))
    )
    channels = 1 if grey else 3
    return ImageStatistics((0.0,) * channels, (1.0,) * channels, sides)


def _values(raw: datasets.Dataset, column: str) -> Iterator[Any]:
    """The encoded values of an undecoded image column, a few rows in memory at a time."""
    for batch in raw.with_format("arrow").iter(_CHUNK_ROWS):
        yield from batch[column].to_pylist()


def _mode_of_row(value: Any, row: int, origin: str) -> str:
    where = f"row {row} (counted from 0) of {origin}"
    return read_mode(encoded_bytes(value, where), value, where)


def _upright_size(value: Any, origin: str) -> tuple[int, int]:
    """(height, width) of the first image as it is looked at."""
    where = f"row 0 (counted from 0) of {origin}"
    data = encoded_bytes(value, where)
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
    except _PIL_ERRORS as error:
        raise _corrupt(value, where, error) from error
    return upright.height, upright.width


def encoded_bytes(value: Any, where: str) -> bytes:
    """The image file's bytes out of an Image value `{"bytes": …, "path": …}`."""
    if value is None or (value.get("bytes") is None and value.get("path") is None):
        raise SamaError(f"{where} has no image; remove the row or add the image")
    if value["bytes"] is not None:
        return value["bytes"]
    try:
        return Path(value["path"]).read_bytes()
    except OSError as error:
        raise SamaError(
            f"{where}: cannot read the image {value['path']}: {error.strerror}"
        ) from error


def read_mode(data: bytes, value: Any, where: str) -> str:
    """PIL's mode, from the header alone. Raises SamaError if it is no image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _mode(image)
    except _PIL_ERRORS as error:
        raise _corrupt(value, where, error) from error


def decode(value: Any, layout: ImageStatistics, where: str) -> np.ndarray:
    """uint8 (channels, height, width) of one Image value. Raises SamaError naming `where`."""
    data = encoded_bytes(value, where)
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            pixels = _convert(upright, layout.channels)
            fitted = np.asarray(_resize(pixels, layout))
    except _PIL_ERRORS as error:
        raise _corrupt(value, where, error) from error
    return fitted[None] if fitted.ndim == 2 else np.ascontiguousarray(fitted.transpose(2, 0, 1))


# What PIL raises on broken files, from "not an image" to a damaged compressed stream.
_PIL_ERRORS = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)


def _corrupt(value: Any, where: str, error: Exception) -> SamaError:
    path = f" ({value['path']})" if value.get("path") else ""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        reason = "it is no image file"
    return SamaError(f"{where}{path}: the image cannot be decoded: {reason}; replace or remove it")


def _mode(image: Image.Image) -> str:
    """The mode, with a palette of greys counted as grey."""
    if image.mode == "P" and image.palette is not None:
        colours = np.frombuffer(image.palette.tobytes(), dtype=np.uint8)
        if image.palette.mode == "RGB" and colours.size % 3 == 0:
            triples = colours.reshape(-1, 3)
            if (triples == triples[:, :1]).all():
                return "L"
    return image.mode


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # PIL cuts 16 bits off at 255; the full range is what is meant.
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        image = Image.fromarray(np.clip(values * (255 / top), 0, 255).round().astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


def _resize(image: Image.Image, layout: ImageStatistics) -> Image.Image:
    height, width = layout.size
    filter_ = Image.Resampling(layout.resample)
    edge = layout.shortest_edge
    if edge is None:
        same = (image.height, image.width) == (height, width)
        return image if same else image.resize((width, height), filter_)
    short = min(image.size)
    wide, high = (int(edge * side / short) for side in image.size)
    if (wide, high) != image.size:
        image = image.resize((wide, high), filter_)
    left, top = (wide - width) // 2, (high - height) // 2
    return image.crop((left, top, left + width, top + height))
