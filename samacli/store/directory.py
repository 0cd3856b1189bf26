"""An output directory that appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from samacli.errors import SamaError
from samacli.store.file import check_parent, umask

RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.json"


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse, before any work is done, an output directory that must not be written.

    Raises:
        SamaError: it holds a finished run and `overwrite` is not set, or it holds anything else
            (which is never deleted), or its parent cannot be written.
    """
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
