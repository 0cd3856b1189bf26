"""What was measured: rows, the files that they are kept in, and which row stands for which cell.

The results file is JSON lines, one appended for each finished run and never changed after. Beside
it lies a file with the recipe behind each digest, so that a row of an older recipe can be told from
one whose recipe says the same in a newer schema.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from samacli.errors import SamaError
from samacli.lab.table.plan import Cell
from samacli.recipe import Recipe
from samacli.recipe.load import flattened, result_relevant
from samacli.recipe.retired import without_retired
from samacli.store.output import check_file, written

try:
    import fcntl
except ImportError:  # Windows: one `sama table` at a time, then
    fcntl = None  # type: ignore[assignment]

Arrays = dict[str, np.ndarray]
_ROW = "__row__"  # in a file of scores: an array of one text
# Much faster than the one in Python, and the same.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Row:
    """What was measured in one run: a line of the results file.

    setting, group, method: as the table names them; algorithm: the method's own name.
    digest: of all that the recipe says and that concerns the method, see `Cell`.
    noise: average precision and AUROC of the method's own scores against wrong labels, and the
        noise rate; None where a method doesn't judge examples or the truth is not known.
    recall: of each class. rows: of each split.
    seconds: of training; wall_seconds: with scoring and testing, without reading the data.
    parts: seconds by name, of a run that has several parts.
    jobs: runs at a time on this machine. commit: short, with a + where files were changed since.
    rows_seen: that went forward and backward through the model (`Fit`). code: of the method, see
        `code_of`. draw: of the data, see `Cell`. None: of a time that did not say it.
    """

    setting: str
    group: str
    method: str
    algorithm: str
    seed: int
    digest: str
    accuracy: float | None
    macro_f1: float | None
    recall: dict[str, float] | None
    noise: dict[str, float] | None
    seconds: float
    wall_seconds: float
    steps: int
    samples_per_second: float
    peak_memory_bytes: int
    rows: dict[str, int]
    device: str
    device_name: str
    precision: str
    threads: int
    jobs: int
    torch: str
    transformers: str
    samacli: str
    commit: str | None
    finished: str
    parts: dict[str, float] | None = None
    rows_seen: int | None = None
    code: str | None = None
    draw: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Row:
        """Raises TypeError where it is no row; unknown fields are left out."""
        known = {field.name for field in dataclasses.fields(Row)}
        return Row(**{name: value for name, value in values.items() if name in known})

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Times are comparable where this is the same."""
        return self.device, self.device_name, self.threads, self.jobs


class Store:
    """The rows of one table in `folder`; several processes may append at the same time.

    scores: where scoring runs of a table of subsets are kept, see `ScoreCache`. code: what code the
    methods were when the page was made, by `code_of`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.jsonl"
        self.recipes = folder / f"{name}-recipes.yaml"
        self.code = folder / f"{name}-code.yaml"
        self.scores = folder / f"{name}-scores"
        self._known: dict[str, dict[str, Any]] | None = None

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
        for number, line in enumerate([*lines, tail] if tail else lines, start=1):
            try:
                rows.append(Row.from_dict(json.loads(line)))
            except (ValueError, TypeError, AttributeError) as error:
                if number > len(lines):
                    return rows, [
                        f"'{self.file}' line {number} is half-written (a run was cut off there) "
                        "and is left out"
                    ]
                raise SamaError(
                    f"'{self.file}' line {number} is no row of results; mend it or delete the line"
                ) from error
        return rows, []

    def append(self, row: Row, recipe: dict[str, Any]) -> None:
        """Add a row; when this returns it is on the disk, whole.

        recipe: what its digest stands for.

        Raises:
            SamaError: the disk is full or can't be written.
        """
        line = json.dumps(row.as_dict(), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            with self.file.open("a+b") as file, locked(file.fileno()):
                self._keep(row.digest, recipe)
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
        """What a digest stands for; None where that isn't known.

        Raises:
            SamaError: the file of recipes can't be read.
        """
        if self._known is None:
            self._known = self._read_recipes()
        return self._known.get(digest)

    def _read_recipes(self) -> dict[str, dict[str, Any]]:
        try:
            text = self.recipes.read_text(encoding="utf-8")
            found: dict[str, dict[str, Any]] = yaml.safe_load(text) or {}
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SamaError(f"'{self.recipes}' cannot be read: {error}") from error
        return found

    def code_then(self) -> dict[str, str]:
        """The code of each method when the page was made; empty where it does not say."""
        if not self.code.is_file():
            return {}
        found: dict[str, str] = yaml.safe_load(self.code.read_text(encoding="utf-8"))
        return found

    def _keep(self, digest: str, recipe: dict[str, Any]) -> None:
        """In order of the digests, so that the file is the same whichever run ends first."""
        if self.recipe(digest) is not None:
            return
        self._known = {**self._read_recipes(), digest: recipe}  # others may have added theirs
        text = yaml.dump(
            dict(sorted(self._known.items())), Dumper=_DUMPER, sort_keys=False, allow_unicode=True
        )
        with written(self.recipes) as stage:
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


class Ledger:
    """The rows of a store, looked up by cell: the last one of a recipe that says the same."""

    def __init__(self, store: Store, rows: Iterable[Row]) -> None:
        self._store = store
        self.rows = list(rows)

    def row(self, cell: Cell) -> Row | None:
        """The cell's row, perhaps measured in another setting (see `Cell.run`), or None."""
        for row in reversed(self.rows):
            if cell.precision not in (None, row.precision):
                continue
            if (row.algorithm, row.seed) == (cell.entry.method, cell.seed) and self.same(
                row.digest, cell
            ):
                return row
        return None

    def outdated(self, cell: Cell) -> Row | None:
        """The cell's last row of an older recipe, where it has no other."""
        if self.row(cell) is not None:
            return None
        shared = not cell.method.uses_clean
        for row in reversed(self.rows):
            here = row.setting == cell.setting.name or (shared and row.group == cell.setting.group)
            if here and (row.method, row.seed) == (cell.entry.name, cell.seed):
                return row
        return None

    def same(self, digest: str, cell: Cell) -> bool:
        """Whether a digest stands for what the cell's recipe says."""
        if digest == cell.digest:
            return True
        then = self._store.recipe(digest)
        return then is not None and says_the_same(then, cell.concerning, cell.settled)


def says_the_same(
    then: dict[str, Any], now: dict[str, Any], settled: Mapping[str, Any] | None = None
) -> bool:
    """Whether a recipe of an older schema says what a recipe says now.

    Keys that have come since count as having had their defaults, and those that have gone are left
    out where they said what is now the rule; what changes no result counts as nothing.

    settled: what an `auto` of now comes to, by dotted key: it was a value once.
    """
    try:
        then = without_retired(then)
    except ValueError:
        return False
    if not now.keys() <= then.keys():
        return False  # a whole section that concerned no such run then
    old, new = flattened(result_relevant(then)), flattened(now)
    if settled is not None:
        new = {
            k: settled.get(k, v) if v == "auto" and old.get(k) != v else v for k, v in new.items()
        }
    if new.get("training.steps") is not None:  # which win over epochs
        for said in (old, new):
            said.pop("training.epochs", None)
    if any(key not in new or new[key] != value for key, value in old.items()):
        return False
    return all(key in _DEFAULTS and _DEFAULTS[key] == new[key] for key in new.keys() - old.keys())


_DEFAULTS = flattened(Recipe().model_dump(mode="json"))


class ScoreCache:
    """What scoring runs found, by key, in a folder that several processes may share; None: nowhere.

    Made once, for all selections made of it. A file holds a run's arrays and its row, and is there
    whole or not at all: a table that was cut off between a scoring run and its row still knows what
    the run took.
    """

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
                # None is there, or none that this version reads.
                with contextlib.suppress(
                    FileNotFoundError, ValueError, KeyError, TypeError, zipfile.BadZipFile
                ):
                    with np.load(file, allow_pickle=False) as content:
                        arrays = dict(content)
                    return Row.from_dict(json.loads(str(arrays.pop(_ROW)))), arrays
                row, arrays = make()
                text = np.array(json.dumps(row.as_dict(), allow_nan=False))
                with written(file) as stage, stage.open("wb") as stream:
                    np.savez_compressed(stream, allow_pickle=False, **{_ROW: text, **arrays})
                return row, arrays
        except OSError as error:
            raise SamaError(f"'{file}' cannot be written: {error.strerror}") from error


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
