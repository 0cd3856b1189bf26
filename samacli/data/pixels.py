"""One image: from an encoded file to pixels of the size and channels that a model takes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from samacli.errors import SamaError

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

_ROWS_AT_ONCE = 64  # encoded photographs are large
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
_CROP_TRIES = 10
# What PIL raises on broken files, from "not an image" to a damaged compressed stream.
_PIL_ERRORS = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)


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


def processor_layout(
    processor: Any, size: int | None, shortest_edge: int | None = None
) -> ImageStatistics:
    """The layout that a transformers image processor asks for; size and edge overrule its own."""
    if isinstance(timm := getattr(processor, "data_config", None), dict):
        return _timm_layout(timm, size, shortest_edge)
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
    edge = edge if shortest_edge is None else shortest_edge
    normalised = getattr(processor, "do_normalize", True) and processor.image_mean is not None
    resample = getattr(processor, "resample", None)
    return ImageStatistics(
        mean=tuple(map(float, processor.image_mean)) if normalised else (0.0, 0.0, 0.0),
        std=tuple(map(float, processor.image_std)) if normalised else (1.0, 1.0, 1.0),
        size=sides,
        shortest_edge=None if edge is None else max(edge, *sides),
        resample=int(Image.Resampling.BILINEAR if resample is None else resample),
    )


def _timm_layout(config: dict[str, Any], size: int | None, edge: int | None) -> ImageStatistics:
    """As `processor_layout`, of what timm knows of a model (`timm.data.resolve_data_config`): the
    shorter side becomes input_size / crop_pct and the middle is cut out, unless it is squashed."""
    sides = tuple(config["input_size"][-2:]) if size is None else (size, size)
    if edge is None and config.get("crop_mode") != "squash":
        edge = int(min(sides) / (config.get("crop_pct") or 1))
    method = str(config.get("interpolation", "bilinear")).upper()
    known = Image.Resampling.__members__  # "random" is for training
    return ImageStatistics(
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
        size=sides,
        shortest_edge=None if edge is None else max(edge, *sides),
        resample=int(known.get(method, Image.Resampling.BICUBIC)),
    )


def data_layout(
    rows: datasets.Dataset,
    column: str,
    size: int | None,
    origin: str,
    shortest_edge: int | None = None,
) -> ImageStatistics:
    """The layout of the data themselves: the first image's size, one channel if all are grey.

    Mean 0 and deviation 1 stand for "not measured yet". Reads the header of every image until one
    is in colour.
    """
    raw = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    sides = _upright_size(raw[0][column], origin) if size is None else (size, size)
    grey = all(
        _mode_of_row(value, row, origin) in _GREY_MODES
        for row, value in enumerate(undecoded_values(raw, column))
    )
    channels = 1 if grey else 3
    edge = None if shortest_edge is None else max(shortest_edge, *sides)
    return ImageStatistics((0.0,) * channels, (1.0,) * channels, sides, edge)


def undecoded_values(raw: datasets.Dataset, column: str) -> Iterator[Any]:
    """The encoded values of an undecoded image column, a few rows in memory at a time."""
    for batch in raw.with_format("arrow").iter(_ROWS_AT_ONCE):
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
            f"{where}: cannot read the image {value['path']}: {error.strerror}; restore or remove "
            "it, or set data.bad_images=skip"
        ) from error


def check_image(data: bytes, value: Any, where: str, *, whole: bool) -> None:
    """Raise SamaError if it is no image, by its header or (whole) by decoding all of it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if whole:
                # A JPEG is read to its end, but decoded at an eighth of its size.
                image.draft(image.mode, (1, 1))
                image.load()
    except _PIL_ERRORS as error:
        raise _corrupt(value, where, error) from error


def read_mode(data: bytes, value: Any, where: str) -> str:
    """PIL's mode, from the header alone. Raises SamaError if it is no image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _mode(image)
    except _PIL_ERRORS as error:
        raise _corrupt(value, where, error) from error


def decode(
    value: Any, layout: ImageStatistics, where: str, crop: np.random.Generator | None = None
) -> np.ndarray:
    """uint8 (channels, height, width) of one Image value. Raises SamaError naming `where`.

    crop: draws a random-resized crop in place of the layout's own resizing.
    """
    data = encoded_bytes(value, where)
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            pixels = _convert(upright, layout.channels)
            fitted = np.asarray(
                _resize(pixels, layout) if crop is None else _crop(pixels, layout, crop)
            )
    except _PIL_ERRORS as error:
        raise _corrupt(value, where, error) from error
    return fitted[None] if fitted.ndim == 2 else np.ascontiguousarray(fitted.transpose(2, 0, 1))


def _corrupt(value: Any, where: str, error: Exception) -> SamaError:
    path = f" ({value['path']})" if value.get("path") else ""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        reason = "it is no image file"
    return SamaError(
        f"{where}{path}: the image cannot be decoded: {reason}; replace or remove it, or set "
        "data.bad_images=skip"
    )


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
    if image.mode.startswith("I") or image.mode == "F":
        # PIL cuts 16 bits off at 255; their full range is what is meant.
        values = np.asarray(image, dtype=np.float64)
        scale = 1.0 if image.mode == "F" else 255 / 65535
        image = Image.fromarray(np.clip(values * scale, 0, 255).round().astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # as PIL asks; straight to RGB gives the same, and a warning
    return image.convert("L" if channels == 1 else "RGB")


def random_box(width: int, height: int, generator: np.random.Generator) -> Box:
    """A box of 8 to 100 % of the area, its sides' ratio between 3:4 and 4:3, anywhere.

    The area is drawn evenly, the ratio evenly in its logarithm, ten times at most until the box
    fits; then the largest box of a possible ratio in the middle (Szegedy et al. 2015, as
    torchvision's RandomResizedCrop does it).
    """
    for _ in range(_CROP_TRIES):
        area = width * height * generator.uniform(*_CROP_AREA)
        ratio = math.exp(generator.uniform(math.log(_CROP_RATIO[0]), math.log(_CROP_RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(generator.integers(0, width - wide + 1))
            top = int(generator.integers(0, height - high + 1))
            return left, top, left + wide, top + high
    wide = min(width, round(height * _CROP_RATIO[1]))
    high = min(height, round(width / _CROP_RATIO[0]))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def _crop(
    image: Image.Image, layout: ImageStatistics, generator: np.random.Generator
) -> Image.Image:
    height, width = layout.size
    box = random_box(image.width, image.height, generator)
    return image.crop(box).resize((width, height), Image.Resampling(layout.resample))


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
