"""A single output file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from samacli.errors import SamaError


def check_file(option: str, file: Path) -> None:
    """Refuse, before any work is done, a file that cannot be written.

    Raises:
        SamaError: it is a directory, or its own cannot be made or written.
    """
    if file.is_dir():
        raise SamaError(f"{option} '{file}' is a directory; name a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SamaError(
            f"{option} '{file}': its directory cannot be made: {error.strerror}"
        ) from error
    if not os.access(file.parent, os.W_OK):
        raise SamaError(f"{option} '{file}': no permission to write in '{file.parent}'")


@contextlib.contextmanager
def written(file: Path) -> Iterator[Path]:
    """A file beside `file` that takes its place when the block ends well, or goes."""
    descriptor, name = tempfile.mkstemp(
        prefix=f".{file.name}.", suffix=file.suffix, dir=file.parent
    )
    os.close(descriptor)
    stage = Path(name)
    try:
        yield stage
        mask = os.umask(0)
        os.umask(mask)
        stage.chmod(0o666 & ~mask)
        stage.replace(file)
    finally:
        stage.unlink(missing_ok=True)
