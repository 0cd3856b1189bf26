"""The picture of a table of subsets: a panel a setting, accuracy against the part kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from samacli.lab.table.description import Table
from samacli.lab.table.figures import Block
from samacli.lab.table.picture import COLUMNS, OURS

# Okabe and Ito's others, and markers to tell lines of one colour apart.
COLOURS = ("#0072B2", "#009E73", "#56B4E9", "#CC79A7", "#E69F00", "#000000")
MARKERS = "osv^<>pX*"


def pruning_picture(table: Table, blocks: Sequence[Block], file: Path) -> None:
    """Draw a PNG; error bars are sample standard deviations, the grey line is the full set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    blocks = [block for block in blocks if block.rows]
    bases = [
        base
        for base in dict.fromkeys(
            line.entry.base for block in blocks for line in block.lines if line.entry.keep
        )
        if base != table.ours
    ]
    columns = min(COLUMNS, max(1, len(blocks)))
    lines = math.ceil(len(blocks) / columns) or 1
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(2.5 + 4.2 * columns, 0.5 + 3.6 * lines),
        squeeze=False,
        layout="constrained",
    )
    handles = {}
    try:
        for axis in axes.flat[len(blocks) :]:
            axis.remove()
        for axis, block in zip(axes.flat, blocks, strict=False):
            full = block.line(table.plain)
            if full is not None and full.accuracy is not None:
                handles["all rows"] = axis.axhline(full.accuracy.mean, color="0.6", linewidth=1.5)
            for base in [*bases, table.ours]:
                points = [
                    (line.entry.keep, mean.mean, mean.spread or 0.0)
                    for line in block.lines
                    if line.entry.base == base and line.entry.keep
                    if (mean := line.accuracy) is not None
                ]
                if not points:
                    continue
                ours = base == table.ours
                place = 0 if ours else bases.index(base)
                kept, means, spreads = zip(*points, strict=True)
                handles[base] = axis.errorbar(
                    kept,
                    means,
                    yerr=spreads,
                    color=OURS if ours else COLOURS[place % len(COLOURS)],
                    marker="D" if ours else MARKERS[place % len(MARKERS)],
                    linewidth=2.2 if ours else 1.0,
                    alpha=1.0 if ours else 0.75,
                    markersize=4.5,
                    capsize=2,
                )
            axis.set_title(block.setting.title, fontsize="medium")
            axis.grid(alpha=0.3)
            axis.invert_xaxis()
            axis.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("part of the training rows kept", fontsize="medium")
        figure.supylabel("test accuracy", fontsize="medium")
        if handles:
            figure.legend(
                handles.values(), handles.keys(), loc="outside right center", fontsize="small"
            )
        figure.savefig(file, dpi=130, format="png")
    finally:
        pyplot.close(figure)
