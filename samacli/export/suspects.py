"""`suspects.csv`: the examples most likely mislabelled, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from samacli.export.escape import write_csv

_IMAGES_AT_MOST = 500


@dataclass(frozen=True)
class Suspects:
    """What the list is made from, one entry a row of the training split (n).

    index: position in the input. given, suggested: class ids, −1 where there is none.
    weight: mean 1. loss: nats. probability: that the given label is wrong, where that is known.
    """

    index: np.ndarray
    given: np.ndarray
    suggested: np.ndarray
    weight: np.ndarray
    loss: np.ndarray
    probability: np.ndarray | None = None

    def order(self) -> np.ndarray:
        """Rows that another label is suggested for and whose own is more probably wrong than right.

        The most probably wrong first. Where probabilities are not known: rows that count less than
        average, the lightest first. Ties are ordered by the larger loss.
        """
        suspect = (self.given >= 0) & (self.given != self.suggested)
        if self.probability is not None and np.isfinite(self.probability[self.given >= 0]).any():
            with np.errstate(invalid="ignore"):  # no probability without a given label
                rows = np.flatnonzero(suspect & (self.probability > 0.5))
            return rows[np.lexsort((-self.loss[rows], -self.probability[rows]))]
        rows = np.flatnonzero(suspect & (self.weight < 1))
        return rows[np.lexsort((-self.loss[rows], self.weight[rows]))]


def write_suspects(
    path: Path,
    suspects: Suspects,
    rows: datasets.Dataset,
    classes: Sequence[str],
    *,
    text_columns: Sequence[str] = (),
    image_column: str | None = None,
    names: Sequence[str | None] | None = None,
) -> int:
    """Write the list with each example's text or image path; returns how many there are.

    names: what the rows are called (n,), if anything; in the column `id`.

    Text that a spreadsheet would run as a formula is quoted (`samacli.export.escape`). Images that
    live in no file of their own are written beside the list, the first 500 of them.
    """
    order = suspects.order()
    probability = suspects.probability
    known = [] if probability is None else ["probability"]
    shown = list(text_columns) if image_column is None else ["image"]
    called = [] if names is None else ["id"]
    header = ["index", *called, *known, "weight", "given_label", "suggested_label", "loss", *shown]

    def lines() -> Iterator[list[object]]:
        for rank, row in enumerate(order.tolist()):
            if image_column is None:
                example = rows[row]
                content = [example[name] for name in text_columns]
            else:
                folder = path.parent / "suspects" if rank < _IMAGES_AT_MOST else None
                content = [_image_path(rows, row, image_column, folder)]
            yield [
                int(suspects.index[row]),
                *([] if names is None else [names[row] or ""]),
                *([] if probability is None else [_cell(probability[row])]),
                f"{suspects.weight[row]:.4f}",
                classes[suspects.given[row]],
                classes[suspects.suggested[row]],
                f"{suspects.loss[row]:.4f}",
                *content,
            ]

    write_csv(path, header, lines())
    return len(order)


def _cell(probability: float) -> str:
    return f"{probability:.4f}" if np.isfinite(probability) else ""


def _image_path(rows: datasets.Dataset, row: int, column: str, folder: Path | None) -> str:
    undecoded = rows.cast_column(column, datasets.Image(decode=False))[row][column]
    if undecoded.get("path") and Path(undecoded["path"]).is_file():
        return str(undecoded["path"])
    if folder is None:
        return ""
    folder.mkdir(exist_ok=True)
    file = folder / f"{row}.png"
    rows[row][column].save(file)
    return f"{folder.name}/{file.name}"
