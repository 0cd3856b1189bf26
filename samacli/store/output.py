"""Outputs that appear whole or not at all, and what is asked of the disk before there is any."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from samacli.errors import SamaError
from samacli.recipe.paths import local_path

RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.json"
REVIEWED_FILE = "reviewed.csv"  # what a person has decided of the run's suspects
LABEL_FILE = "label.csv"  # rows that a person was asked to label, and may have labelled


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse, before any work is done, an output directory that must not be written.

    Raises:
        SamaError: it holds a finished run and `overwrite` is not set, or it holds anything else
            (which is never deleted), or what a person has made of the run, or its parent cannot
            be written.
    """
    if output.name in ("", ".."):
        raise SamaError(
            f"--output '{output}' has no name to be put in place under; name a new directory"
        )
    # While it is made it has a longer name, beside the output.
    local_path(output.with_name(f".{output.name}.old.12345678"), "--output")
    if output.is_file():
        raise SamaError(f"--output '{output}' is a file; name a directory")
    if output.is_dir() and any(output.iterdir()):
        if not _is_run(output):
            raise SamaError(
                f"--output '{output}' is not empty and holds no samacli run; name another directory"
            )
        if not overwrite:
            raise SamaError(
                f"--output '{output}' already holds a finished run; "
                "add --overwrite to replace it, or name another directory"
            )
        for made, how in ((REVIEWED_FILE, "was made by hand"), (LABEL_FILE, "may be filled in")):
            if (output / made).is_file():
                raise SamaError(
                    f"--output '{output}' holds {made}, which {how}; --overwrite would delete it "
                    "with the run: move it elsewhere first, or name another directory"
                )
    check_parent("--output", output, called="parent")


def _is_run(directory: Path) -> bool:
    return (directory / METRICS_FILE).is_file() or (directory / RECIPE_FILE).is_file()


@contextlib.contextmanager
def staged(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A directory to write into, which takes the place of `output` when the block ends well.

    It lies beside `output`, on the same file system, so that the exchange is a rename. If the block
    fails, it is removed and `output` is as it was.
    """
    check_output(output, overwrite=overwrite)
    stage = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield stage
        stage.chmod(0o777 & ~umask())
        if output.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
            output.rename(old / output.name)
            try:
                stage.rename(output)
            except OSError:
                (old / output.name).rename(output)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            stage.rename(output)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


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


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse work that will not fit on the disk of `folder`, an existing folder; `needed` in bytes.

    Raises:
        SamaError: there is less room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SamaError(
            f"{what} takes up to {needed / 1e9:,.1f} GB, but the disk of '{folder}' has "
            f"{free / 1e9:,.1f} GB left; make room, or put --output on another disk"
        )
