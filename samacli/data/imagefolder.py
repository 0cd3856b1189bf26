"""Image folders: `root/<class>/x.png`, or `root/<split>/<class>/x.png`."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import datasets

from samacli.data.table import Table
from samacli.errors import SamaError

ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
)


def image_files(folder: Path) -> list[Path]:
    """Every image under `folder`, by its ending, in the order of the paths; no hidden files."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def has_classes(folder: Path) -> bool:
    """Whether `folder` looks like `<class>/<image>`: some image one level down or deeper."""
    return any(
        path.suffix.lower() in ENDINGS
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".")
        for path in child.rglob("*")
    )


def read_image_folder(folder: Path, image: str, label: str) -> Table:
    """The images under `folder` as paths, with the name of their folder as class.

    Columns `image` (datasets Image, encoded, opened when it is needed) and `label` (ClassLabel,
    classes in the order of their names). Raises SamaError when there are none.
    """
    folders = (child for child in folder.iterdir() if child.is_dir())
    classes = sorted(child.name for child in folders if not child.name.startswith("."))
    paths: list[str] = []
    labels: list[int] = []
    filled: list[str] = []
    for name in classes:
        found = image_files(folder / name)
        if found:
            labels += [len(filled)] * len(found)
            paths += [str(path.resolve()) for path in found]
            filled.append(name)
    if not paths:
        raise SamaError(f"{folder} holds no images in folders named by their class")
    features = datasets.Features(
        {image: datasets.Image(), label: datasets.ClassLabel(names=filled)}
    )
    rows = datasets.Dataset.from_dict({image: paths, label: labels}, features=features)
    return Table(rows, str(folder), base=folder)


def image_splits(folder: Path, usual: Set[str]) -> dict[str, Path]:
    """The folder of each split, by its name, one of `usual`; the whole folder if there is none.

    A class may be called "test": splits are told from classes by the folders inside them.
    """
    named = {child.name: child for child in sorted(folder.iterdir()) if child.is_dir()}
    splits = {name: child for name, child in named.items() if name in usual and has_classes(child)}
    return splits or {"train": folder}
