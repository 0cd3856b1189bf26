"""The examples that a report shows: the most suspicious and the most valuable ones."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from samacli.export.escape import printable
from samacli.report.finished import FinishedRun, Scores, example_rows
from samacli.report.reviewed import Ranked, suspects

SUSPECTS_AT_MOST = 150
VALUABLE_AT_MOST = 100
_TEXT = 500  # characters
_SIDE = 96  # pixels
_SMALL = 40  # below, images are shown enlarged


@dataclass(frozen=True)
class Example(Ranked):
    """A training row as it is shown.

    text: empty for an image. image: a data URI, empty for a text and for an image that is not there
    any more.
    """

    text: str
    image: str


def suspicious(run: FinishedRun) -> list[Example]:
    """The first of `suspects.csv`."""
    return [
        Example(
            row=one.row,
            name=one.name,
            given=one.given,
            suggested=one.suggested,
            value=one.value,
            loss=one.loss,
            probability=one.probability,
            text="" if run.image_column else _text(one.content),
            # An absolute path stays what it is.
            image=_thumbnail({"path": one.content[0] and run.directory / one.content[0]})
            if run.image_column
            else "",
        )
        for one in suspects(run)[:SUSPECTS_AT_MOST]
    ]


def valuable(run: FinishedRun) -> list[Example]:
    """The examples of the highest weight of each class, the highest first.

    As many of each class, so that a single class does not fill the list.
    """
    scores = run.scores
    classes = scores.classes
    each = max(2, math.ceil(VALUABLE_AT_MOST / max(len(classes), 1)))
    rows: list[int] = []
    for name in classes:
        of_class = scores.of_class(name)
        rows += of_class[np.argsort(-scores.ranked_by[of_class], kind="stable")][:each].tolist()
    rows = sorted(rows, key=lambda row: (-scores.ranked_by[row], row))[:VALUABLE_AT_MOST]
    contents = example_rows(run, rows)
    return [example(run, row, contents.get(row, {})) for row in rows]


def example(run: FinishedRun, row: int, content: dict[str, Any]) -> Example:
    """One training row with its text or image."""
    scores = run.scores
    image = content.get(run.image_column) if run.image_column else None
    return Example(
        row=int(scores.index[row]),
        name="" if scores.names is None else scores.names[row] or "",
        given=scores.given[row] or "",
        suggested=scores.suggested[row] or "",
        value=float(scores.ranked_by[row]),
        loss=float(scores.loss[row]),
        probability=_known(scores, row),
        text=_text([content.get(column) for column in run.text_columns]),
        image="" if image is None else _thumbnail(image),
    )


def _known(scores: Scores, row: int) -> float | None:
    known = None if scores.mislabelled is None else float(scores.mislabelled[row])
    return None if known is None or math.isnan(known) else known


def _text(parts: Sequence[str | None]) -> str:
    text = printable("\n".join(part for part in parts if part)).strip()
    text = re.sub(r"\s*\n\s*", "\n", text)  # blank lines are room for words
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"


def _thumbnail(image: dict[str, Any]) -> str:
    """A small copy as a data URI; empty where there is none."""
    kind, data = small_copy(image, _SIDE)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if data else ""


def small_copy(image: dict[str, Any], side: int) -> tuple[str, bytes]:
    """(png or jpeg, a copy of at most `side` pixels a side) of a `datasets.Image`'s bytes or path.

    Upright, as the model sees it. No bytes where it is unreadable: moved or damaged since.
    """
    source = io.BytesIO(image["bytes"]) if image.get("bytes") else image.get("path")
    if not source:
        return "", b""
    try:
        with Image.open(source) as opened:
            small = ImageOps.exif_transpose(opened)
            small = small.convert("RGBA" if small.has_transparency_data else "RGB")
            small.thumbnail((side, side))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "", b""
    kind, options = "jpeg", {"quality": 80 if side == _SIDE else 90}
    if max(small.size) <= _SMALL or small.mode == "RGBA":
        kind, options = "png", {"optimize": True}
    file = io.BytesIO()
    small.save(file, kind, **options)
    return kind, file.getvalue()
