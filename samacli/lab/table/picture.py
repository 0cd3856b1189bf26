"""The picture: a panel a setting, a line a method, a dot a mean and a tick a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from samacli.lab.table.description import Table
from samacli.lab.table.figures import Block
from samacli.lab.table.kind import learns_weights

# Okabe and Ito's colours, told apart with any colour vision.
OURS, OTHERS = "#D55E00", "#0072B2"
COLUMNS = 3


def picture(table: Table, blocks: Sequence[Block], file: Path) -> None:
    """Draw a PNG of the accuracies; error bars are sample standard deviations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    blocks = [block for block in blocks if block.rows]
    columns = min(COLUMNS, max(1, len(blocks)))
    lines = math.ceil(len(blocks) / columns) or 1
    methods = max((len(block.lines) for block in blocks), default=1)
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(2.0 + 4.2 * columns, 0.8 + lines * (1.0 + 0.26 * methods)),
        squeeze=False,
        sharey=True,  # the same methods in the same order
        layout="constrained",
    )
    try:
        for axis in axes.flat[len(blocks) :]:
            axis.remove()
        for axis, block in zip(axes.flat, blocks, strict=False):
            for place, line in enumerate(block.lines):
                mean = line.accuracy
                if mean is None:
                    continue
                colour = OURS if learns_weights(line.entry.method) else OTHERS
                seeds = [row.accuracy for row in line.rows.values()]
                axis.plot(seeds, [place] * len(seeds), "|", color=colour, alpha=0.5, markersize=9)
                axis.errorbar(
                    mean.mean,
                    place,
                    xerr=mean.spread,
                    fmt="o" if line.entry.name != table.ours else "D",
                    color=colour,
                    capsize=3,
                )
            axis.set_yticks(range(len(block.lines)), [line.entry.name for line in block.lines])
            axis.set_title(block.setting.title, fontsize="medium")
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
        if blocks:
            axes[0, 0].invert_yaxis()
        figure.supxlabel(
            "test accuracy: mean, sample standard deviation and seeds", fontsize="medium"
        )
        figure.savefig(file, dpi=130, format="png")
    finally:
        pyplot.close(figure)
