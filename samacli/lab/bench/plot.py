"""The picture: throughput and memory beside plain training, over whatever was varied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samacli.lab.bench.contenders import PLAIN
from samacli.lab.bench.row import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with any colour vision, and a marker each for print.
COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#009E73", "#000000", "#999999")
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")

# What can be varied: the row's field, the axis, and whether its values are shown by name.
DIMENSIONS = (
    ("model", "base model (parameters)"),
    ("unroll", "base steps to a meta step"),
    ("world_size", "processes"),
)
MEASURES = (
    ("relative_throughput", "throughput, plain training = 1"),
    ("relative_memory", "peak memory, plain training = 1"),
)


def plot(rows: Sequence[Row], file: Path) -> None:
    """Draw a PNG: a column for each varied dimension, the others held at their first value.

    With nothing varied there is one column, a bar an estimator.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    varied = [d for d in DIMENSIONS if len({getattr(row, d[0]) for row in rows}) > 1]
    columns = max(1, len(varied))
    figure, axes = pyplot.subplots(
        2, columns, figsize=(1.5 + 4.8 * columns, 7.5), squeeze=False, layout="constrained"
    )
    try:
        for row_of_axes, (measure, label) in zip(axes, MEASURES, strict=True):
            if not varied:
                _bars(row_of_axes[0], rows, measure)
            for axis, (dimension, name) in zip(row_of_axes, varied, strict=False):
                _lines(axis, _slice(rows, dimension), dimension, measure)
                axis.set_xlabel(name)
            row_of_axes[0].set_ylabel(label)
        if varied:
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right center", frameon=False)
        figure.suptitle(_title(rows[0]), fontsize="medium")
        figure.savefig(file, dpi=150, format="png")
    finally:
        pyplot.close(figure)


def _slice(rows: Sequence[Row], dimension: str) -> list[Row]:
    """The rows along one dimension, the others at the first row's values."""
    others = [name for name, _ in DIMENSIONS if name != dimension]
    return [row for row in rows if all(getattr(row, o) == getattr(rows[0], o) for o in others)]


def _lines(axis: Axes, rows: Sequence[Row], dimension: str, measure: str) -> None:
    ticks: dict[float, str] = {}
    for estimator, style in _styles(rows).items():
        points = sorted(
            (_position(row, dimension), getattr(row, measure))
            for row in rows
            if row.estimator == estimator and getattr(row, measure) is not None
        )
        axis.plot([x for x, _ in points], [y for _, y in points], label=estimator, **style)
    for row in rows:
        if row.parameters is not None or dimension != "model":
            ticks[_position(row, dimension)] = _tick(row, dimension)
    axis.set_xscale("log")
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.minorticks_off()
    _frame(axis, rows, measure)


def _bars(axis: Axes, rows: Sequence[Row], measure: str) -> None:
    done = [row for row in rows if getattr(row, measure) is not None]
    styles = _styles(rows)
    heights = [getattr(row, measure) for row in done]
    bars = axis.bar(
        [row.estimator for row in done],
        heights,
        color=[styles[row.estimator]["color"] for row in done],
    )
    axis.bar_label(bars, [f"{height:.2f}" for height in heights])
    axis.tick_params(axis="x", rotation=20)
    _frame(axis, rows, measure)


def _frame(axis: Axes, rows: Sequence[Row], measure: str) -> None:
    values = [value for row in rows if (value := getattr(row, measure)) is not None]
    if measure == "relative_memory" and values and max(values) > 8:
        axis.set_yscale("log")
    else:
        axis.set_ylim(0, 1.1 * max(values, default=1.0))
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _styles(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    names = list(dict.fromkeys(row.estimator for row in rows))
    styles: dict[str, dict[str, Any]] = {}
    coloured = 0
    for name in names:
        if name == PLAIN:
            styles[name] = {"color": "0.5", "linestyle": "--"}
            continue
        styles[name] = {
            "color": COLOURS[coloured % len(COLOURS)],
            "marker": MARKERS[coloured % len(MARKERS)],
        }
        coloured += 1
    return styles


def _position(row: Row, dimension: str) -> float:
    if dimension == "model":
        return float(row.parameters) if row.parameters else math.nan
    return float(getattr(row, dimension))


def _tick(row: Row, dimension: str) -> str:
    if dimension == "model":
        return f"{Path(row.model).name}\n{(row.parameters or 0) / 1e6:,.0f} M"
    return str(getattr(row, dimension))


def _title(row: Row) -> str:
    return (
        f"samacli {row.samacli}, torch {row.torch}\n{row.device_name} ({row.device}), "
        f"{row.precision}, batch {row.batch_size} × {row.sequence_length} tokens"
    )
