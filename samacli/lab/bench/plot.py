"""The picture: throughput and memory beside plain training, over whatever was varied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samacli.lab.bench.steps import PLAIN
from samacli.lab.bench.workload import Measurement
from samacli.lab.drawing import drawing, framed, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What can be varied, and its axis.
DIMENSIONS = {
    "model": "base model (parameters)",
    "unroll": "base steps to a meta step",
    "world_size": "processes",
}
MEASURES = {
    "relative_throughput": "throughput, plain training = 1",
    "relative_memory": "peak memory, plain training = 1",
}


def plot(rows: Sequence[Measurement], file: Path) -> None:
    """Draw a PNG: a column for each varied dimension, the others held at their first value.

    With nothing varied there is one column, a bar an estimator.
    """
    varied = [name for name in DIMENSIONS if len({getattr(row, name) for row in rows}) > 1]
    columns = max(1, len(varied))
    with drawing(file, 2, columns, (1.5 + 4.8 * columns, 7.5)) as (figure, axes):
        for row_of_axes, (measure, label) in zip(axes, MEASURES.items(), strict=True):
            if not varied:
                _bars(row_of_axes[0], rows, measure)
            for axis, dimension in zip(row_of_axes, varied, strict=False):
                _lines(axis, along(rows, dimension), dimension, measure)
                axis.set_xlabel(DIMENSIONS[dimension])
            row_of_axes[0].set_ylabel(label)
        if varied:
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right center", frameon=False)
        row = rows[0]
        figure.suptitle(
            f"samacli {row.samacli}, torch {row.torch}\n{row.device_name} ({row.device}), "
            f"{row.precision}, batch {row.batch_size} × {row.sequence_length} tokens",
            fontsize="medium",
        )


def along(rows: Sequence[Measurement], dimension: str) -> list[Measurement]:
    """The rows along one dimension, the others at the first row's values."""
    others = [name for name in DIMENSIONS if name != dimension]
    return [row for row in rows if all(getattr(row, o) == getattr(rows[0], o) for o in others)]


def _lines(axis: Axes, rows: Sequence[Measurement], dimension: str, measure: str) -> None:
    ticks: dict[float, str] = {}
    for estimator, look in _styles(rows).items():
        points = sorted(
            (_position(row, dimension), getattr(row, measure))
            for row in rows
            if row.estimator == estimator and getattr(row, measure) is not None
        )
        axis.plot([x for x, _ in points], [y for _, y in points], label=estimator, **look)
    for row in rows:
        if dimension != "model":
            ticks[_position(row, dimension)] = str(getattr(row, dimension))
        elif row.parameters is not None:
            name = f"{Path(row.model).name}\n{row.parameters / 1e6:,.0f} M"
            ticks[_position(row, dimension)] = name
    axis.set_xscale("log")
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.minorticks_off()
    _frame(axis, rows, measure)


def _bars(axis: Axes, rows: Sequence[Measurement], measure: str) -> None:
    heights = {row.estimator: value for row in rows if (value := getattr(row, measure)) is not None}
    styles = _styles(rows)
    colours = [styles[name]["color"] for name in heights]
    bars = axis.bar(list(heights), list(heights.values()), color=colours)
    axis.bar_label(bars, [f"{height:.2f}" for height in heights.values()])
    axis.tick_params(axis="x", rotation=20)
    _frame(axis, rows, measure)


def _frame(axis: Axes, rows: Sequence[Measurement], measure: str) -> None:
    values = [value for row in rows if (value := getattr(row, measure)) is not None]
    if measure == "relative_memory" and values and max(values) > 8:
        axis.set_yscale("log")
    else:
        axis.set_ylim(0, 1.1 * max(values, default=1.0))
    framed(axis, grid="y")


def _styles(rows: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    others = dict.fromkeys(row.estimator for row in rows if row.estimator != PLAIN)
    styles = {name: style(place) for place, name in enumerate(others)}
    return {PLAIN: {"color": "0.5", "linestyle": "--"}, **styles}


def _position(row: Measurement, dimension: str) -> float:
    if dimension == "model":
        return float(row.parameters) if row.parameters else math.nan
    return float(getattr(row, dimension))
