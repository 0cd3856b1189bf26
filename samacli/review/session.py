"""The decisions of a review, each of them in `reviewed.csv` as soon as it is made."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samacli.errors import SamaError
from samacli.report.examples import small_copy
from samacli.report.finished import FinishedRun, example_rows
from samacli.report.reviewed import (
    Form,
    Suspect,
    classes,
    csv_line,
    page_data,
    shown_texts,
    suspects,
)
from samacli.review.images import kept_image
from samacli.store.lock import Lock
from samacli.store.output import RECIPE_FILE, REVIEWED_FILE, written

_SIDE = 1024  # pixels of an image on the page
_COPIES = "reviewed"  # images that lie outside of the run, beside the file that names them


@dataclass(frozen=True)
class Counts:
    """How many of the suspects under review are decided, and how."""

    suspects: int
    accepted: int
    corrected: int
    kept: int

    @property
    def decided(self) -> int:
        return self.accepted + self.corrected + self.kept


class Session:
    """A run under review. Made by `opened`.

    classes: their names; a decision is a number of them. decided: by row, the last one last.
    shown: the suspects that are asked about, the first of all.
    """

    def __init__(self, run: FinishedRun, limit: int) -> None:
        self.run, self.file = run, run.directory / REVIEWED_FILE
        self.all = {one.row: one for one in suspects(run)}
        self.shown = list(self.all.values())[:limit]
        self._asked = {one.row for one in self.shown}
        self.classes = classes(run)
        self._form = Form.of(run)
        self._places = {row: place for place, row in enumerate(run.scores.index.tolist())}
        self._directory = os.stat(run.directory)
        self._changing = threading.Lock()
        self._copies: dict[int, str] = {}
        self.decided: dict[int, int] = {}
        if self.file.is_file():
            found = self._form.read(self.file, self.all, self.classes)
            self.decided = {row: self.classes.index(label) for row, label in found.items()}

    @property
    def counts(self) -> Counts:
        """Of the suspects that are shown."""
        given = dict.fromkeys(("accepted", "corrected", "kept"), 0)
        for one in self.shown:
            if one.row in self.decided:
                label = self.classes[self.decided[one.row]]
                other = "accepted" if label == one.suggested else "corrected"
                given["kept" if label == one.given else other] += 1
        return Counts(len(self.shown), **given)

    @property
    def unseen(self) -> list[str]:
        """Classes that no decided row has."""
        return [name for i, name in enumerate(self.classes) if i not in self.decided.values()]

    @property
    def next_command(self) -> str:
        """What goes on from here: the run again, with what was reviewed in its clean set."""
        return again_with(self.run, self.file, "reviewed")

    def page_data(self) -> dict[str, Any]:
        """What the page's script is told."""
        decided = {row: label for row, label in self.decided.items() if row in self._asked}
        return {
            **page_data(self.run, self.shown, decided),
            "images": self.run.image_column is not None,
            "next": f"End sama review with Ctrl-C in its terminal; it says what to do with "
            f"{REVIEWED_FILE}.",
        }

    def suspect(self, row: int) -> Suspect | None:
        """The suspect of that row, if it is one that is asked about."""
        return self.all[row] if row in self._asked else None

    def texts(self, suspect: Suspect) -> dict[str, Any]:
        """See `shown_texts`."""
        return shown_texts(suspect.content)

    def image(self, suspect: Suspect) -> tuple[str, bytes]:
        """See `small_copy`."""
        return small_copy(self._image(suspect), _SIDE)

    def decide(self, row: int, label: int | None) -> None:
        """Decide that a class is a row's right label, or take the decision back (None).

        Raises:
            SamaError: its image is not there any more, or the file cannot be written.
        """
        with self._changing:
            changed = {r: y for r, y in self.decided.items() if r != row}
            if label is not None:
                changed[row] = label
            self._write(changed)
            self.decided = changed

    def _write(self, decided: dict[int, int]) -> None:
        try:
            if not os.path.samestat(self._directory, os.stat(self.run.directory)):
                raise SamaError(
                    f"'{self.run.directory}' has been replaced by another run; start sama review "
                    "again"
                )
            with written(self.file) as stage, stage.open("w", encoding="utf-8", newline="") as file:
                file.write(csv_line(self._form.header) + "\r\n")
                for row, label in decided.items():
                    one = self.all[row]
                    file.write(self._form.row(one, self._content(one), self.classes[label]))
        except OSError as error:
            raise SamaError(f"'{self.file}' cannot be written: {error.strerror}") from error

    def _content(self, suspect: Suspect) -> tuple[str, ...]:
        """The cells of its texts, or a path of its image that starts from the run's directory."""
        if self.run.image_column is None:
            return suspect.content
        if suspect.row not in self._copies:
            self._copies[suspect.row] = self._kept_image(suspect)
        return (self._copies[suspect.row],)

    def _kept_image(self, suspect: Suspect) -> str:
        # Within the run's directory: a table names no images outside of its own (data/confine).
        path = suspect.content[0]
        if path and not Path(path).is_absolute() and (self.run.directory / path).is_file():
            return path
        for copy in (self.run.directory / _COPIES).glob(f"{suspect.row}.*"):
            return f"{_COPIES}/{copy.name}"
        image = self._image(suspect)
        return kept_image(image, suspect.row, self.run.directory / _COPIES, called=path)

    def _image(self, suspect: Suspect) -> dict[str, Any]:
        path = suspect.content[0]
        if path and (self.run.directory / path).is_file():
            return {"path": self.run.directory / path}  # an absolute one stays what it is
        assert self.run.image_column is not None
        place = self._places.get(suspect.row)
        found = {} if place is None else example_rows(self.run, [place]).get(place, {})
        return found.get(self.run.image_column) or {}


def again_with(run: FinishedRun, file: Path, called: str) -> str:
    """The command that does a run again with a file of labelled rows in its clean set.

    Beside the files that the clean set came of; not beside rows that were taken out of a split.

    called: what the next run's output is called, after this one's.
    """
    directory = run.directory
    data = run.recipe.get("data") or {}
    taken_out = data.get("meta_per_class") is not None
    meta = data.get("meta")
    before = [] if taken_out else [meta] if isinstance(meta, str) else meta or []
    before = [name for name in before if data.get("path") or Path(name).exists()]
    parts = [
        *("sama", run.workflow, str(directory / RECIPE_FILE)),
        *(part for name in dict.fromkeys([*before, str(file)]) for part in ("--meta", name)),
        *(["data.meta_per_class=null"] if taken_out else []),
        *("--output", f"{str(directory).rstrip('/')}-{called}"),
    ]
    return shlex.join(parts)


@contextmanager
def opened(directory: Path, limit: int) -> Iterator[Session]:
    """A finished run under review, by nobody else until the block ends.

    limit: how many of its suspects are asked about, the most suspicious first.

    Raises:
        SamaError: it is no run, has no suspects, cannot be written, is under review already, or
            holds a `reviewed.csv` of something else.
    """
    run = FinishedRun.read(directory)
    if not run.suspects:
        raise SamaError(f"'{directory}' has no suspects (suspects.csv is empty): nothing to review")
    lock = Lock()
    try:
        free = lock.take(directory / f".{REVIEWED_FILE}.lock")
    except OSError as error:
        raise SamaError(f"'{directory}' cannot be written: {error.strerror}") from error
    if not free:
        raise SamaError(
            f"'{directory}' is under review by another sama review; go on there, or end it first"
        )
    try:
        yield Session(run, limit)
    finally:
        lock.release()
