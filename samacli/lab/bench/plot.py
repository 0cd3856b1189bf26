"""The picture: throughput and memory beside plain training, over whatever was varied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

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
    frame = pd.DataFrame([row.as_dict() for row in rows]).astype(dict.fromkeys(MEASURES, float))
    first = rows[0]
    varied = [name for name in DIMENSIONS if frame[name].nunique() > 1]
    columns = max(1, len(varied))
    with drawing(file, 2, columns, (1.5 + 4.8 * columns, 7.5)) as (figure, axes):
        for row_of_axes, (measure, label) in zip(axes, MEASURES.items(), strict=True):
            if not varied:
                _bars(row_of_axes[0], frame, measure)
            for axis, dimension in zip(row_of_axes, varied, strict=False):
                others = [name for name in DIMENSIONS if name != dimension]
                along = frame[(frame[others] == frame[others].iloc[0]).all(axis=1)]
                _lines(axis, along, dimension, measure)
                axis.set_xlabel(DIMENSIONS[dimension])
            row_of_axes[0].set_ylabel(label)
        if varied:
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right center", frameon=False)
        figure.suptitle(
            f"samacli {first.samacli}, torch {first.torch}\n{first.device_name} ({first.device}), "
            f"{first.precision}, batch {first.batch_size} × {first.sequence_length} tokens",
            fontsize="medium",
        )


def _lines(axis: Axes, frame: Any, dimension: str, measure: str) -> None:
    x = "parameters" if dimension == "model" else dimension
    placed = frame.dropna(subset=x).sort_values(x, kind="stable")
    for estimator, look in _styles(frame).items():
        points = placed[placed["estimator"] == estimator].dropna(subset=measure)
        axis.plot(points[x], points[measure], label=estimator, **look)
    ticks = placed.drop_duplicates(x, keep="last")
    labels = [
        f"{Path(row[dimension]).name}\n{row[x] / 1e6:,.0f} M" if x != dimension else str(row[x])
        for _, row in ticks.iterrows()
    ]
    axis.set_xscale("log")
    axis.set_xticks(ticks[x], labels)
    axis.minorticks_off()
    _frame(axis, frame, measure)


def _bars(axis: Axes, frame: Any, measure: str) -> None:
    heights = frame.dropna(subset=measure).set_index("estimator")[measure]
    styles = _styles(frame)
    bars = axis.bar(heights.index, heights, color=[styles[name]["color"] for name in heights.index])
    axis.bar_label(bars, [f"{height:.2f}" for height in heights])
    axis.tick_params(axis="x", rotation=20)
    _frame(axis, frame, measure)


def _frame(axis: Axes, frame: Any, measure: str) -> None:
    highest = frame[measure].max()  # nan where nothing was measured
    if measure == "relative_memory" and highest > 8:
        axis.set_yscale("log")
    else:
        axis.set_ylim(0, 1.1 * highest if highest > 0 else 1.1)
    framed(axis, grid="y")


def _styles(frame: Any) -> dict[str, dict[str, Any]]:
    others = frame.loc[frame["estimator"] != PLAIN, "estimator"].unique()
    styles = {name: style(place) for place, name in enumerate(others)}
    return {PLAIN: {"color": "0.5", "linestyle": "--"}, **styles}
