"""The curve of accuracy against what is kept: `curve.csv`, `curve.md` and `curve.png`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import get_args

import pandas as pd

from samacli.errors import counted
from samacli.pruning.curve import Budget, Point
from samacli.training.spread import with_spread

# Of lines in pictures: Okabe and Ito's, told apart with any colour vision, ours first.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def write_curve(folder: Path, points: Sequence[Point], sentences: Sequence[str]) -> None:
    """Write all three into `folder`; sentences: what is recommended, below the table."""
    table = pd.DataFrame([point.as_dict() for point in points])
    table["accuracy"] = [" ".join(f"{v:.6f}" for v in point.accuracy) for point in points]
    table.to_csv(folder / "curve.csv", index=False, float_format="%.6f", lineterminator="\r\n")
    (folder / "curve.md").write_text(_markdown(points, sentences), encoding="utf-8")
    _draw(folder / "curve.png", points)


def _markdown(points: Sequence[Point], sentences: Sequence[str]) -> str:
    seeds = max(len(point.accuracy) for point in points)
    lines = [
        f"Accuracy on half of the test rows after retraining from scratch: mean ± sample standard "
        f"deviation of {counted(seeds, 'seed')}. The other half judges what is recommended.",
        "",
        "| selection | keep | rows | same steps | same epochs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (selection, keep, rows), group in groupby(
        sorted(points, key=_place), key=lambda p: (p.selection, p.keep, p.rows)
    ):
        found = {point.budget: point for point in group}
        cells = [
            f"{with_spread(found[budget].accuracy)} ({found[budget].steps:,})"
            if budget in found
            else ""
            for budget in get_args(Budget)
        ]
        lines.append(f"| {selection} | {keep or 'all'} | {rows:,} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences), ""])


def _place(point: Point) -> tuple[bool, str, int, str, str]:
    return point.selection != "full", point.selection, -point.rows, point.keep, point.budget


def _draw(file: Path, points: Sequence[Point]) -> None:
    from matplotlib.figure import Figure

    full = next(point for point in points if point.selection == "full")
    names = list(dict.fromkeys(p.selection for p in points if p.selection != "full"))
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, budget in zip(axes, get_args(Budget), strict=True):
        axis.axhline(full.mean, color="grey", linestyle="--", label="all rows")
        if full.spread is not None:
            low, high = full.mean - full.spread, full.mean + full.spread
            axis.axhspan(low, high, color="grey", alpha=0.15)
        for place, name in enumerate(names):
            line = sorted(
                (p for p in points if p.selection == name and p.budget == budget),
                key=lambda p: p.rows,
            )
            axis.errorbar(
                [point.rows / full.rows for point in line],
                [point.mean for point in line],
                yerr=[point.spread or 0.0 for point in line],
                color=COLOURS[place % len(COLOURS)],
                linestyle="-" if place < len(COLOURS) else ":",
                marker="o",
                capsize=3,
                label=name,
            )
        axis.set_title(f"same number of {budget}", fontsize="medium")
        axis.set_xlabel("fraction kept")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("test accuracy: mean and standard deviation")
    axes[1].legend(frameon=False, fontsize="small")
    figure.savefig(file, dpi=130, format="png")
