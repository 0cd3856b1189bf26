"""The highest- and the lowest-ranked examples of each class, to look at: pictures, or text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np

_SHOWN = 20  # of either end
_COLUMNS = 10
_LETTERS = 200  # of a text


def write_pictures(
    folder: Path,
    scores: np.ndarray,
    labels: np.ndarray,
    rows: datasets.Dataset,
    index: np.ndarray,
    classes: Sequence[str],
    column: str,
) -> None:
    """One PNG grid a class in `folder`, its highest-ranked images above its lowest-ranked.

    scores: (n,), higher is kept first. labels: (n,) class ids. index: (n,) positions in the input,
    by which the examples are called. The files are named by the class's
    number and, as far as file systems allow, its name.
    """
    from matplotlib.figure import Figure

    folder.mkdir()
    for label, highest, lowest in _ends(scores, labels):
        lines = 2 * math.ceil(max(len(highest), len(lowest)) / _COLUMNS)
        size = (_COLUMNS * 0.9, 0.5 + lines * 1.0)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(lines, _COLUMNS, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for half, part in ((axes[: lines // 2], highest), (axes[lines // 2 :], lowest)):
            for axis, row in zip(half.flat, part.tolist(), strict=False):
                image = rows[row][column]
                axis.imshow(image, cmap="gray" if image.mode in ("L", "1", "I;16") else None)
                axis.set_title(f"{index[row]}: {scores[row]:.2f}", fontsize=6, pad=2)
        figure.suptitle(
            f"{classes[label]}: highest-ranked above, lowest-ranked below (row: score)", fontsize=9
        )
        figure.savefig(folder / f"{_file_name(label, classes[label])}.png", dpi=100)


def write_texts(
    file: Path,
    scores: np.ndarray,
    labels: np.ndarray,
    rows: datasets.Dataset,
    index: np.ndarray,
    classes: Sequence[str],
    columns: Sequence[str],
) -> None:
    """The same of texts, as Markdown lists; long texts are cut."""
    lines = ["Highest- and lowest-ranked examples of each class: row, score, text.", ""]
    for label, highest, lowest in _ends(scores, labels):
        for end, part in (("highest", highest), ("lowest", lowest)):
            lines += [f"## {_escaped(classes[label])}: {end}", ""]
            for row in part.tolist():
                example = rows[row]
                text = " | ".join(" ".join(str(example[name]).split()) for name in columns)
                cut = text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"
                lines.append(f"- {index[row]}, {scores[row]:.2f}: {_escaped(cut)}")
            lines.append("")
    file.write_text("\n".join(lines), encoding="utf-8")


def _ends(scores: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(class, its highest-ranked rows, its lowest-ranked, the lowest first); none in both."""
    for label in np.unique(labels[labels >= 0]).tolist():
        rows = np.flatnonzero(labels == label)
        order = rows[np.argsort(-scores[rows], kind="stable")]
        shown = min(_SHOWN, math.ceil(len(order) / 2))
        yield label, order[:shown], order[max(shown, len(order) - _SHOWN) :][::-1]


def _file_name(label: int, name: str) -> str:
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60]
    return f"{label:03d}-{safe}" if safe else f"{label:03d}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]#])", r"\\\1", text)
