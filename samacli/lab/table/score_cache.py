"""What scoring runs found, kept beside a table's rows: made once, for all selections made of it.

A file holds a run's arrays and its row, and is there whole or not at all. So a table that was cut
off between a scoring run and its row still knows what the run took.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from samacli.errors import SamaError
from samacli.lab.table.row import Row
from samacli.lab.table.store import locked
from samacli.store.output import written

Arrays = dict[str, np.ndarray]
_ROW = "__row__"  # an array of one text


class ScoreCache:
    """Scoring runs by key in a folder that several processes may share; None: kept nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._last: tuple[str, Row, Arrays] | None = None

    def get(self, key: str, make: Callable[[], tuple[Row, Arrays]]) -> tuple[Row, Arrays]:
        """The run of that key, `make`d unless it is there; one process at a time makes it.

        Raises:
            SamaError: the folder can't be written.
        """
        if self._last is None or self._last[0] != key:
            row, arrays = make() if self._folder is None else self._kept(self._folder, key, make)
            self._last = key, row, arrays
        return self._last[1:]

    @staticmethod
    def _kept(folder: Path, key: str, make: Callable[[], tuple[Row, Arrays]]) -> tuple[Row, Arrays]:
        file = folder / f"{key}.npz"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file.with_suffix(".lock").open("wb") as lock, locked(lock.fileno()):
                found = _read(file)
                if found is None:
                    row, arrays = found = make()
                    text = np.array(json.dumps(row.as_dict(), allow_nan=False))
                    with written(file) as stage, stage.open("wb") as stream:
                        np.savez_compressed(stream, allow_pickle=False, **{_ROW: text, **arrays})
                return found
        except OSError as error:
            raise SamaError(f"'{file}' cannot be written: {error.strerror}") from error


def _read(file: Path) -> tuple[Row, Arrays] | None:
    """None where there is none, or none that this version reads."""
    with contextlib.suppress(
        FileNotFoundError, ValueError, KeyError, TypeError, zipfile.BadZipFile
    ):
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        return Row.from_dict(json.loads(str(arrays.pop(_ROW)))), arrays
    return None
