"""What a person decides of a run's suspects: `reviewed.csv`, and what a page needs to ask.

`reviewed.csv` is a clean set for `--meta`: each row that was decided on with its text or image, its
right label in the column in which the training data have theirs, and in `sama_given` the label that
it had. Its cells are those of the data, unlike those of `suspects.csv`, which a spreadsheet may
open: what goes out equals what came in.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from samacli.data.pool import GIVEN_COLUMN
from samacli.errors import SamaError
from samacli.export.escape import printable
from samacli.report.finished import FinishedRun, lines

SHOWN_CHARACTERS = 20_000  # of a text


@dataclass(frozen=True)
class Ranked:
    """What a run says of a training row.

    row: position in the input. name: what it is called there, or empty. value: its weight, or score
    where rows are pruned. probability: that its label is wrong, where that is known.
    """

    row: int
    name: str
    given: str
    suggested: str
    value: float
    loss: float
    probability: float | None


@dataclass(frozen=True)
class Suspect(Ranked):
    """A line of `suspects.csv`.

    content: the cells of its text columns, or its image's path, which is empty where there is no
    file of it.
    """

    content: tuple[str, ...]


def suspects(run: FinishedRun) -> list[Suspect]:
    """All of them, the most suspicious first."""
    measure = dict(zip(run.scores.index.tolist(), run.scores.ranked_by.tolist(), strict=True))
    shown = run.text_columns if run.image_column is None else ["image"]
    return [
        Suspect(
            row=int(line["index"]),
            name="" if run.scores.names is None else line.get("id", ""),
            given=line["given_label"],
            suggested=line["suggested_label"],
            value=measure.get(int(line["index"]), math.nan),
            loss=float(line["loss"]),
            probability=float(line["probability"]) if line.get("probability") else None,
            content=tuple(line.get(column, "") for column in shown),
        )
        for line in run.suspects
    ]


def classes(run: FinishedRun) -> list[str]:
    """Every class, in the run's order; those of a run that did not store them, as text."""
    found = run.metrics.get("classes")
    if isinstance(found, list) and found:
        return [str(name) for name in found]
    return sorted({line[key] for line in run.suspects for key in ("given_label", "suggested_label")}
                  | set(run.scores.classes))  # fmt: skip


@dataclass(frozen=True)
class Form:
    """The columns of `reviewed.csv`: row number, name (None: rows have none), content, labels."""

    index: str
    name: str | None
    content: tuple[str, ...]
    label: str

    @classmethod
    def of(cls, run: FinishedRun) -> Form:
        columns = (run.recipe.get("data") or {}).get("columns") or {}
        label = str(columns.get("label", "label"))
        image = run.image_column
        content = tuple(run.text_columns) if image is None else (image,)

        def free(name: str) -> str:
            return name if name not in (*content, label) else f"sama_{name}"

        named = run.scores.names is not None
        return cls(free("index"), free("id") if named else None, content, label)

    @property
    def header(self) -> list[str]:
        named = [] if self.name is None else [self.name]
        return [self.index, *named, *self.content, self.label, GIVEN_COLUMN]

    def around(self, suspect: Suspect) -> tuple[str, str]:
        """A row of the file before its content and after its right label."""
        named = [] if self.name is None else [suspect.name]
        return f"{csv_line([suspect.row, *named])},", f",{csv_line([suspect.given])}\r\n"

    def row(self, suspect: Suspect, content: Sequence[str], label: str) -> str:
        """A row of the file, with its line's end."""
        before, after = self.around(suspect)
        return before + csv_line([*content, label]) + after

    def read(
        self, file: Path, found: Mapping[int, Suspect], known: Sequence[str]
    ) -> dict[int, str]:
        """The right labels by row, in the file's order.

        Raises:
            SamaError: it is no `reviewed.csv` of these suspects and classes.
        """
        decided: dict[int, str] = {}
        for number, line in enumerate(lines(file, escaped=False), start=1):
            missing = [name for name in self.header if name not in line]
            suspect = found.get(int(row) if (row := line.get(self.index, "")).isdecimal() else -1)
            if missing:
                fault = f"it has no column '{missing[0]}'"
            elif suspect is None or suspect.given != line[GIVEN_COLUMN]:
                fault = f"its row {number} ({self.index} {row[:20]}) is none of the run's suspects"
            elif line[self.label] not in known:
                fault = f"its row {number} has the label '{line[self.label][:40]}', no class here"
            else:
                decided[suspect.row] = line[self.label]
                continue
            raise SamaError(
                f"'{file}' is not what was reviewed of this run: {fault}; mend it, or move it away"
            )
        return decided


def csv_line(cells: Sequence[Any]) -> str:
    """Cells as CSV, without the line's end."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)  # which quotes what would end the line, so it must know how
    return text.getvalue().removesuffix("\r\n")


def shown_texts(cells: Sequence[str]) -> dict[str, Any]:
    """texts: what a person may see of a row's text columns; cut: whether that is not all."""
    texts = [printable(cell) for cell in cells]
    return {
        "texts": [text[:SHOWN_CHARACTERS] for text in texts],
        "cut": any(len(text) > SHOWN_CHARACTERS for text in texts),
    }


@dataclass(frozen=True)
class Item:
    """A suspect on a page; given, suggested: class numbers. wrong: probability or score of that."""

    row: int
    name: str
    given: int
    suggested: int
    wrong: float | None
    value: float | None
    loss: float | None


def page_data(
    run: FinishedRun, found: Sequence[Suspect], decided: Mapping[int, int] | None = None
) -> dict[str, Any]:
    """What the reviewer's script is told of suspects; classes are numbers, contents are not in it.

    decided: class numbers by row.
    """
    names = classes(run)
    number = {name: i for i, name in enumerate(names)}
    return {
        "classes": [printable(name) for name in names],
        "measure": run.scores.measure,
        "wrong": run.wrong_name,
        "columns": run.text_columns,
        "decided": list((decided or {}).items()),
        "items": [
            asdict(
                Item(
                    row=one.row,
                    name=printable(one.name),
                    given=number[one.given],
                    suggested=number[one.suggested],
                    wrong=one.probability,
                    value=_known(one.value),
                    loss=_known(one.loss),
                )
            )
            for one in found
        ],
    }


def download_data(run: FinishedRun, images: Sequence[bool]) -> dict[str, Any]:
    """`page_data` of the first suspects with all that a page needs to make `reviewed.csv` itself.

    images: of each of them, whether the page has its image; any of texts. A row is `before`, the
    `cells`, its right label's cell, `after`; without `cells` where its image or text is not there
    whole. `texts`: what is shown, where the cells do not tell.
    """
    form, found = Form.of(run), suspects(run)[: len(images)]
    data = page_data(run, found)
    for one, item, image in zip(found, data["items"], images, strict=True):
        shown = shown_texts([] if run.image_column else one.content)
        whole = image if run.image_column else not shown["cut"]
        item["before"], item["after"] = form.around(one)
        item["cells"] = [csv_line([cell]) for cell in one.content] if whole else None
        if not run.image_column and shown["texts"] != list(one.content):
            item |= shown
    data["header"] = csv_line(form.header) + "\r\n"
    data["cells"] = [csv_line([name]) for name in classes(run)]
    # Pages from the disk share one store.
    digest = hashlib.blake2b(json.dumps(data).encode(), digest_size=16).hexdigest()
    return {**data, "key": f"sama-review-{digest}"}


def script_data(data: Mapping[str, Any]) -> Markup:
    """JSON that may stand in a <script>: ASCII alone, and nothing that ends the element."""
    text = json.dumps(data, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _known(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
