"""Image folders: `root/<class>/x.png`, or `root/<split>/<class>/x.png`."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path

import datasets
from PIL import Image

from samacli.data.table import Table
from samacli.errors import SamaError, counted

# Formats that Pillow hands to another program or to a reader that is not there, or that are video.
_NOT_READ = frozenset(
    ("BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF", "FLI", "GBR", "IPTC", "MIC", "FPX")
)
_JUNK = frozenset(("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"))
_JUNK_FOLDERS = frozenset(("__macosx", "@eadir"))
_ENDINGS_SHOWN = 4


def read_image_folder(folder: Path, image: str, label: str) -> Table:
    """The images under `folder` as paths, with the name of their folder as class.

    Columns `image` (datasets Image, encoded, opened when it is needed) and `label` (ClassLabel,
    classes in the order of their names). What files are left out is in the table's notes. Raises
    SamaError when there are no images.
    """
    paths: list[str] = []
    labels: list[int] = []
    filled: list[str] = []
    left_out: list[Path] = []
    notes: list[str] = []
    for child in _shown(folder):
        if not child.is_dir():
            if is_image(child):
                left_out.append(child)
            continue
        found: list[Path] = []
        for path in sorted(_files(child)):
            (found if is_image(path) else left_out).append(path)
        if found:
            labels += [len(filled)] * len(found)
            paths += [str(path.resolve()) for path in found]
            filled.append(child.name)
        else:
            notes.append(f"the folder {child} holds no image, so it is no class")
    if not paths:
        raise SamaError(f"{folder} holds no images in folders named by their class")
    beside = [path for path in left_out if path.parent == folder]
    if beside:
        notes.append(
            f"left out {counted(len(beside), 'image that lies', 'images that lie')} in {folder} "
            "itself, in no class's folder"
        )
    if len(left_out) > len(beside):
        unread = Counter(p.suffix.lower() for p in left_out if p.parent != folder)
        kinds = ", ".join(
            f"{count:,} {ending or 'without an ending'}"
            for ending, count in unread.most_common(_ENDINGS_SHOWN)
        )
        more = " …" if len(unread) > _ENDINGS_SHOWN else ""
        notes.append(
            f"left out {unread.total():,} of {unread.total() + len(paths):,} files of {folder} "
            f"that are no images Pillow reads: {kinds}{more}"
        )
    features = datasets.Features(
        {image: datasets.Image(), label: datasets.ClassLabel(names=filled)}
    )
    rows = datasets.Dataset.from_dict({image: paths, label: labels}, features=features)
    return Table(rows, str(folder), base=folder, notes=notes)


def has_classes(folder: Path) -> bool:
    """Whether `folder` looks like `<class>/<image>`: some image one level down or deeper."""
    return any(
        is_image(path) for child in _shown(folder) if child.is_dir() for path in _files(child)
    )


def image_splits(folder: Path, usual: Set[str]) -> dict[str, Path]:
    """The folder of each split, by its name, one of `usual`; the whole folder if there is none.

    A class may be called "test": splits are told from classes by the folders inside them. Raises
    SamaError where all folders hold folders of the same names, and theirs are not usual ones.
    """
    named = {child.name: child for child in _shown(folder) if child.is_dir()}
    nested = {name: child for name, child in named.items() if has_classes(child)}
    splits = {name: child for name, child in nested.items() if name.lower() in usual}
    if splits or len(nested) < 2 or len(nested) < len(named):
        return splits or {"train": folder}
    inside = [{c.name for c in _shown(child) if c.is_dir()} for child in nested.values()]
    if all(len(names) > 1 and names == inside[0] for names in inside):
        raise SamaError(
            f"the folders of {folder} ({', '.join(nested)}) hold the same folders "
            f"({', '.join(sorted(inside[0])[:4])}), so they seem to be splits, not classes; name "
            f"the one that is meant: {next(iter(nested.values()))}"
        )
    return {"train": folder}


def is_image(path: Path) -> bool:
    """Whether it is called as an image that Pillow reads, or is one by its first bytes."""
    endings, formats = _read_by_pillow()
    if path.suffix.lower() in endings:
        return True
    try:
        with Image.open(path, formats=formats):
            return True
    except Exception:  # many types; whatever it is, it is no image
        return False


@functools.cache
def _read_by_pillow() -> tuple[frozenset[str], list[str]]:
    """(endings, formats)."""
    Image.init()
    formats = sorted(set(Image.OPEN) - _NOT_READ)
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, name in known if name in formats), formats


def _shown(folder: Path) -> list[Path]:
    return sorted(
        child
        for child in folder.iterdir()
        if not child.name.startswith(".") and child.name.lower() not in _JUNK | _JUNK_FOLDERS
    )


def _files(folder: Path) -> Iterator[Path]:
    """Every file under `folder`, but for hidden ones and a system's own."""
    for path in folder.rglob("*"):
        names = [part.lower() for part in path.relative_to(folder).parts]
        hidden = any(name.startswith(".") or name in _JUNK_FOLDERS for name in names)
        if not hidden and names[-1] not in _JUNK and path.is_file():
            yield path
