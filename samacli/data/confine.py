"""What a data set may make this program read: its own folder, and no archives.

Data come from strangers. A table may name `../../.ssh/id_rsa` or `/home/me/private.png` as an
image, a link may lead out of an image folder, a saved dataset's index may name files elsewhere;
whatever is read so ends in an exported dataset, which is then published. So a file that a data set
names has to lie in the data set's folder (or in one that the recipe names: `data.image_root`), with
links followed. And no archive is unpacked: the datasets library would, by a file's first bytes and
whatever its name.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np

from samacli.data.table import Table
from samacli.errors import SamaError

_ROWS = 1000

# First bytes of archives, by name (tar has none and is asked for).
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"Rar!\x1a\x07": "rar",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}
# Packed single files that are read as what they hold, if their name says so too.
_PACKED = (
    (re.compile(rb"\x1f\x8b"), ".gz"),
    (re.compile(rb"BZh[1-9]1AY&"), ".bz2"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), ".zst"),
)


def refuse_archive(path: Path) -> None:
    """Raise SamaError for an archive, and for a packed file whose name does not say so."""
    with path.open("rb") as file:
        start = file.read(8)
    kind = next((name for magic, name in _ARCHIVES.items() if start.startswith(magic)), None)
    if kind is None and tarfile.is_tarfile(path):
        kind = "tar"
    if kind is not None:
        raise SamaError(f"{path} is a {kind} archive, which is not read; unpack it first")
    for magic, ending in _PACKED:
        if magic.match(start) and path.suffix.lower() != ending:
            raise SamaError(f"{path} is packed, but its name does not end in {ending}; rename it")


def library_caches() -> tuple[Path, ...]:
    """Where the Hugging Face libraries keep what they fetched: links of a snapshot lead there."""
    return (
        Path(huggingface_hub.constants.HF_HUB_CACHE),
        Path(datasets.config.HF_DATASETS_CACHE),
        Path(datasets.config.DOWNLOADED_DATASETS_PATH),
    )


def inside(path: Path, roots: Sequence[Path]) -> bool:
    """Whether `path`, with links followed, lies in one of `roots` or in the libraries' caches."""
    real = path.resolve()
    return any(real.is_relative_to(root.resolve()) for root in (*roots, *library_caches()))


def refuse_outside(path: Path, folder: Path) -> None:
    """Raise SamaError for a file of a data folder that, with links followed, lies outside it."""
    if not inside(path, [folder]):
        raise SamaError(
            f"{path} leads out of the data folder, to {path.resolve()}; name that file itself, or "
            "copy it into the folder"
        )


def refuse_images_outside(table: Table, column: str, positions: np.ndarray, first: int = 0) -> None:
    """Raise SamaError for the first image that is a URL or a file outside of the table's folder.

    column: of datasets' Image. positions: the rows to look at. first: the number of the table's
    first row, for the message. Rows that are not confined may name what they like.
    """
    if not table.confined:
        return
    roots = [] if table.base is None else [table.base]
    rows = table.rows.select(positions).select_columns([column])
    raw = rows.cast_column(column, datasets.Image(decode=False)).with_format("arrow")
    done = 0
    for batch in raw.iter(_ROWS):
        values = batch[column].combine_chunks()
        held, paths = values.field("bytes").is_valid(), values.field("path")
        for row in np.flatnonzero(~held.to_numpy(zero_copy_only=False)):
            path = paths[int(row)].as_py()
            if path is not None:
                where = f"row {first + positions[done + row]} (counted from 0) of {table.origin}"
                _refuse_image(path, roots, where)
        done += len(batch)


def _refuse_image(path: str, roots: Sequence[Path], where: str) -> None:
    if "\0" in path or "://" in path or "::" in path:
        raise SamaError(
            f"{where} names the image {path!r}, which is no file; images are never fetched: "
            "download them, and give their paths"
        )
    if not inside(Path(path), roots):
        folder = f"outside {roots[0]}" if roots else "outside the dataset's own files"
        raise SamaError(
            f"{where} names the image {path}, which lies {folder}; if that is meant, name the "
            "folder that holds all images with data.image_root"
        )
