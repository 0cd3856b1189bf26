"""The results file: JSON lines, one appended for each finished run and never changed after.

Beside it lies a folder with the recipe behind each digest, so that a row of an older recipe can be
told from one whose recipe says the same in a newer schema.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from samacli.errors import SamaError
from samacli.lab.table.row import Row
from samacli.recipe.load import read_yaml
from samacli.store.output import check_file, written

try:
    import fcntl
except ImportError:  # Windows: one `sama table` at a time, then
    fcntl = None  # type: ignore[assignment]


class Store:
    """The rows of one table in `folder`; several processes may append at the same time."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.jsonl"
        self.recipes = folder / f"{name}-recipes"
        self.scores = folder / f"{name}-scores"  # of a table of subsets; see `ScoreCache`

    def check(self) -> None:
        """Refuse, before any work is done, a place that cannot be written.

        Raises:
            SamaError: it cannot.
        """
        check_file("--output", self.file)

    def read(self) -> tuple[list[Row], list[str]]:
        """All rows in the order in which they were appended, and what is to be said of the file.

        A half-written last line is what a run cut off while appending leaves; it is left out.

        Raises:
            SamaError: another line is no row, or the file can't be read.
        """
        try:
            content = self.file.read_bytes() if self.file.is_file() else b""
        except OSError as error:
            raise SamaError(f"'{self.file}' cannot be read: {error.strerror}") from error
        *lines, tail = content.split(b"\n")
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(Row.from_dict(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise SamaError(
                    f"'{self.file}' line {number} is no row of results; mend it or delete the line"
                ) from error
        if not tail:
            return rows, []
        try:
            return [*rows, Row.from_dict(json.loads(tail))], []
        except (ValueError, KeyError, TypeError):
            return rows, [
                f"'{self.file}' line {len(lines) + 1} is half-written (a run was cut off there) "
                "and is left out"
            ]

    def append(self, row: Row, recipe: dict[str, Any]) -> None:
        """Add a row; when this returns it is on the disk, whole.

        recipe: what its digest stands for.

        Raises:
            SamaError: the disk is full or can't be written.
        """
        line = json.dumps(row.as_dict(), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self._keep(row.digest, recipe)
            with self.file.open("a+b") as file, locked(file.fileno()):
                end = self._mended_end(file)
                try:
                    file.write(line.encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(end)
                    raise
        except OSError as error:
            raise SamaError(f"'{self.file}' cannot be written: {error.strerror}") from error

    def recipe(self, digest: str) -> dict[str, Any] | None:
        """What a digest stands for; None where its file is gone."""
        file = self.recipes / f"{digest}.yaml"
        try:
            return read_yaml(file.read_text(encoding="utf-8"), str(file))
        except OSError:
            return None

    def _keep(self, digest: str, recipe: dict[str, Any]) -> None:
        file = self.recipes / f"{digest}.yaml"
        if not file.is_file():
            self.recipes.mkdir(parents=True, exist_ok=True)
            with written(file) as stage:
                text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
                stage.write_text(text, encoding="utf-8")

    @staticmethod
    def _mended_end(file: Any) -> int:
        """Where the next line begins: a half-written one goes, a whole one gets its end."""
        file.seek(0)
        content = file.read()
        start = content.rfind(b"\n") + 1
        if start == len(content):
            return start
        try:
            json.loads(content[start:])
        except ValueError:
            file.truncate(start)
            return start
        file.write(b"\n")
        return len(content) + 1


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Alone with an open file, of all processes that ask; does nothing on Windows."""
    if fcntl is None:
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
