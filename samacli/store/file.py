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
    check_parent(option, file, called="directory")


def check_parent(option: str, path: Path, *, called: str) -> None:
    """Make the directory that `path` is to lie in; `called`: what a message calls it.

    Raises:
        SamaError: it cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SamaError(
            f"{option} '{path}': its {called} cannot be made: {error.strerror}"
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise SamaError(f"{option} '{path}': no permission to write in '{path.parent}'")


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
        stage.chmod(0o666 & ~umask())
        stage.replace(file)
    finally:
        stage.unlink(missing_ok=True)


def umask() -> int:
    """The permissions that this process withholds from what it makes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
