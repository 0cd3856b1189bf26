"""The picture of a table: a panel a setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samacli.lab.drawing import OTHERS, OURS, drawing, framed, style
from samacli.lab.table.description import TableSpec
from samacli.lab.table.figures import Block
from samacli.lab.table.plan import learns_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3


def picture(table: TableSpec, blocks: Sequence[Block], file: Path) -> None:
    """Draw a PNG of the accuracies; error bars are sample standard deviations.

    A line a method, a dot a mean and a tick a seed; of subsets accuracy against the part kept, the
    grey line being the full set.
    """
    blocks = [block for block in blocks if block.rows]
    columns = min(COLUMNS, max(1, len(blocks)))
    lines = math.ceil(len(blocks) / columns) or 1
    subsets = table.workflow == "prune"
    methods = max((len(block.lines) for block in blocks), default=1)
    size = (2.0 + 4.2 * columns, 0.8 + lines * (1.0 + 0.26 * methods))
    if subsets:
        size = (2.5 + 4.2 * columns, 0.5 + 3.6 * lines)
    # the same methods in the same order
    with drawing(file, lines, columns, size, sharey=not subsets) as (figure, axes):
        for axis in axes.flat[len(blocks) :]:
            axis.remove()
        others = dict.fromkeys(
            line.entry.base
            for block in blocks
            for line in block.lines
            if line.entry.keep and line.entry.base != table.ours
        )
        looks: dict[str, dict[str, Any]] = {
            name: {**style(place), "linewidth": 1.0, "alpha": 0.75}
            for place, name in enumerate(others)
        }
        looks[table.ours] = {"color": OURS, "marker": "D", "linewidth": 2.2}
        handles: dict[str, Any] = {}
        for axis, block in zip(axes.flat, blocks, strict=False):
            if subsets:
                _against_keep(axis, table, block, looks, handles)
            else:
                _by_method(axis, table, block)
            framed(axis, block.setting.title)
        if subsets:
            figure.supxlabel("part of the training rows kept", fontsize="medium")
            figure.supylabel("test accuracy", fontsize="medium")
            if handles:
                figure.legend(
                    handles.values(), handles.keys(), loc="outside right center", fontsize="small"
                )
        else:
            if blocks:
                axes[0, 0].invert_yaxis()
            figure.supxlabel(
                "test accuracy: mean, sample standard deviation and seeds", fontsize="medium"
            )


def _by_method(axis: Axes, table: TableSpec, block: Block) -> None:
    for place, line in enumerate(block.lines):
        mean = line.accuracy
        if mean is None:
            continue
        colour = OURS if learns_weights(line.entry.method) else OTHERS[0]
        seeds = [row.accuracy for row in line.rows.values() if row.accuracy is not None]
        axis.plot(seeds, [place] * len(seeds), "|", color=colour, alpha=0.5, markersize=9)
        marker = "D" if line.entry.name == table.ours else "o"
        axis.errorbar(mean.mean, place, xerr=mean.spread, fmt=marker, color=colour, capsize=3)
    axis.set_yticks(range(len(block.lines)), [line.entry.name for line in block.lines])


def _against_keep(
    axis: Axes,
    table: TableSpec,
    block: Block,
    looks: dict[str, dict[str, Any]],
    handles: dict[str, Any],
) -> None:
    plain = block.line(table.plain)
    if plain is not None and plain.accuracy is not None:
        handles["all rows"] = axis.axhline(plain.accuracy.mean, color="0.6", linewidth=1.5)
    for base, look in looks.items():
        points = [
            (line.entry.keep, mean.mean, mean.spread or 0.0)
            for line in block.lines
            if line.entry.base == base and line.entry.keep and (mean := line.accuracy) is not None
        ]
        if points:
            kept, means, spreads = zip(*points, strict=True)
            handles[base] = axis.errorbar(
                kept, means, yerr=spreads, markersize=4.5, capsize=2, **look
            )
    axis.invert_xaxis()
