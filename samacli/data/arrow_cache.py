"""Files converted once into memory-mapped Arrow, found again by what they hold.

By their content, not by name and time: a file may be replaced by another with the same time stamp
(`rsync -t`, an unpacked archive), and its rows must not be those of the one before.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from samacli.data.table import cache_root, first_line
from samacli.errors import SamaError

_VERSION = "3"  # part of the cache key; raise it when a conversion changes


def converted(
    paths: Sequence[Path], kind: str, convert: Callable[[Path], None], *settings: str
) -> datasets.Dataset:
    """The rows of `paths`, memory-mapped, as `convert(target)` writes them: an Arrow stream.

    kind: of the files, for the key and for messages. settings: what else the rows depend on.
    Raises SamaError for an empty file, and for a table that datasets cannot hold.
    """
    for path in paths:
        if path.stat().st_size == 0:
            raise SamaError(f"{path} is empty")
    target = cache_root() / f"{kind}-{_key(paths, kind, *settings)}.arrow"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{kind}-", suffix=".partial")
        os.close(handle)
        partial = Path(name)
        try:
            convert(partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    try:
        return datasets.Dataset.from_file(str(target))
    except (ValueError, pa.ArrowException) as error:  # a header that no table can have
        raise SamaError(f"cannot read {paths[0]} as {kind.upper()}: {first_line(error)}") from error


def _key(paths: Sequence[Path], *parts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (_VERSION, *parts):
        digest.update(part.encode() + b"\0")
    for path in paths:
        digest.update(f"{path.suffix}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
