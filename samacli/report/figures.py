"""The pictures of a report: SVG that lives in a page, with the page's colours, light or dark."""

from __future__ import annotations

import contextlib
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from samacli.export.escape import one_line
from samacli.report.finished import FinishedRun, Scores
from samacli.report.trainings import Training
from samacli.training.spread import mean_and_spread

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

# Colours to draw with: what no one would choose, each standing for a CSS variable of the page.
INK, MUTED, GRID, SURFACE = "#0b0001", "#0b0002", "#0b0003", "#0b0004"
SERIES = tuple(f"#0a000{i}" for i in range(1, 9))
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", SURFACE: "surface"} | {
    colour: f"series-{i}" for i, colour in enumerate(SERIES, start=1)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: the page's font, found by search, read aloud
    "svg.hashsalt": "samacli",
    "text.parse_math": False,  # a class may be called "$x$"
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}

AT_MOST = len(SERIES)  # classes or methods in one picture
_WIDTH = 5.4  # inches: read at half of that on a phone
_POINTS = 400
_DASHES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
_MARKERS = "osD^vPX*"


def accuracies(trainings: Sequence[Training]) -> str:
    """A line a training: each seed's accuracy, and their mean with its standard deviation."""
    shown = [training for training in trainings if training.accuracy]
    with _style():
        figure, axes = _figure(0.8 + 0.36 * len(shown))
        for place, training in enumerate(reversed(shown)):
            colour = SERIES[0] if training.ours else MUTED
            mean, spread = mean_and_spread(training.accuracy)
            axes.errorbar(
                mean, place, xerr=spread, color=colour, fmt="o", markersize=7, elinewidth=2
            )
            if spread is not None:
                seeds = np.full(len(training.accuracy), place - 0.25)
                axes.plot(training.accuracy, seeds, "|", color=colour, markersize=7)
        axes.set_yticks(range(len(shown)), [training.name for training in reversed(shown)])
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.margins(x=0.12)
        axes.set_xlabel("test accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        best = max(shown, key=lambda training: training.mean)
        label = f"Test accuracy of {len(shown)} trainings; the highest mean is {best.name}'s"
        return _inline(figure, "accuracies", label)


def weight_by_loss(run: FinishedRun) -> str | None:
    """The learnt weight as a function of the loss, a line a class, over the examples as points.

    None where no row has a loss.
    """
    scores = run.scores
    drawn = np.flatnonzero(scores.labelled & np.isfinite(scores.loss) & np.isfinite(scores.weight))
    if not len(drawn):
        return None
    drawn = drawn[np.unique(np.linspace(0, len(drawn) - 1, _POINTS).round().astype(int))]
    with _style():
        figure, axes = _figure(3.6)
        axes.scatter(
            scores.loss[drawn], scores.weight[drawn], s=9, color=MUTED, alpha=0.3, linewidths=0
        )
        for i, (name, loss, weight) in enumerate(functions(run)):
            axes.plot(loss, weight, _DASHES[i], color=SERIES[i], label=_short(name))
        axes.set_xlim(0, max(float(np.quantile(scores.loss[drawn], 0.995)) * 1.05, 1e-3))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("loss with the given label (nats)")
        axes.set_ylabel("weight")
        _legend(figure, axes)
        return _inline(figure, "weight-by-loss", "Learnt weight against loss, a line a class")


def functions(run: FinishedRun) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Class, losses (nats) and weights of the learnt function, mean over seeds; largest classes."""
    found = []
    for name in run.scores.classes[:AT_MOST]:
        lines = [line for line in run.weight_lines if line["class"] == name]
        curves = [
            np.array([(float(line["loss"]), float(line["weight"])) for line in of_seed])
            for _, of_seed in groupby(lines, key=lambda line: line["seed"])
        ]
        if curves:
            # Each seed's reaches as far as its losses did.
            loss = np.linspace(0, min(curve[-1, 0] for curve in curves), len(curves[0]))
            weight = np.mean([np.interp(loss, *curve.T) for curve in curves], axis=0)
            found.append((name, loss, weight))
    return found


def weight_distribution(scores: Scores) -> str | None:
    """A box a class: quartiles, with whiskers to the 5th and 95th percentile, and the mean."""
    classes = scores.classes[: 2 * AT_MOST]
    if not classes:
        return None
    with _style():
        figure, axes = _figure(0.9 + 0.34 * len(classes))
        stats = []
        for name in reversed(classes):
            weights = scores.weight[scores.of_class(name)]
            low, first, middle, third, high = np.percentile(weights, [5, 25, 50, 75, 95])
            stats.append(
                {
                    "label": _short(name),
                    "whislo": low,
                    "q1": first,
                    "med": middle,
                    "q3": third,
                    "whishi": high,
                    "mean": weights.mean(),
                }
            )
        axes.bxp(
            stats,
            orientation="horizontal",
            showfliers=False,
            showmeans=True,
            widths=0.55,
            patch_artist=True,
            boxprops={"facecolor": SERIES[0], "alpha": 0.35, "edgecolor": "none"},
            medianprops={"color": SERIES[0], "linewidth": 2.5},
            whiskerprops={"color": SERIES[0]},
            capprops={"color": SERIES[0]},
            meanprops={"marker": "D", "markersize": 4, "markerfacecolor": INK,
                       "markeredgecolor": INK},
        )  # fmt: skip
        axes.axvline(1, color=MUTED, linewidth=1, linestyle=":")
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("weight (1 is the mean of all)")
        return _inline(figure, "weight-distribution", "Distribution of the weights of each class")


def learning(run: FinishedRun) -> str | None:
    """Losses of the base level of each training, and of the meta level; means over seeds."""
    methods = list(dict.fromkeys(line["method"] for line in run.learning))
    # SAMA's first: its colour is the same in every picture.
    methods = sorted(methods, key=lambda name: not name.startswith(("sama", "scoring")))[:AT_MOST]
    if not methods:
        return None
    base = {name: _mean_curve(run, name, "loss") for name in methods}
    meta = {name: _mean_curve(run, name, "meta_loss") for name in methods}
    meta = {name: curve for name, curve in meta.items() if len(curve)}
    with _style():
        figure, *_ = _figure(2.9 if not meta else 4.6, rows=1 + bool(meta))
        panels = [("base level", base), *([("meta level", meta)] if meta else [])]
        for axes, (title, curves) in zip(figure.axes, panels, strict=True):
            for name, curve in curves.items():
                i = methods.index(name)
                axes.plot(*curve.T, _DASHES[i], color=SERIES[i], label=name, linewidth=1.4)
            axes.set_title(f"{title}: loss (nats)")
            axes.set_ylim(bottom=0)
            axes.set_xlim(0, max(float(curve[-1, 0]) for curve in base.values() if len(curve)))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.axes[-1].set_xlabel("step")
        _legend(figure, figure.axes[0])
        return _inline(
            figure, "learning", "Loss against step, of the base level and the meta level"
        )


def _mean_curve(run: FinishedRun, method: str, column: str) -> np.ndarray:
    """(points, 2): step and mean over seeds."""
    by_step: dict[int, list[float]] = {}
    for line in run.learning:
        if line["method"] == method and line[column]:
            by_step.setdefault(int(line["step"]), []).append(float(line[column]))
    return np.array([(step, np.mean(by_step[step])) for step in sorted(by_step)]).reshape(-1, 2)


def retained_accuracy(run: FinishedRun, trainings: Sequence[Training]) -> str | None:
    """Accuracy after retraining against the share of rows kept; None where nothing was measured."""
    kept = [training for training in trainings if training.keep and training.accuracy]
    if not kept:
        return None
    rows = max(run.rows.get("train", 0), 1)
    counts = run.metrics.get("keep", {})
    # Of a verified pruning, the same again with as many epochs as on all rows.
    by_epochs = [p for p in run.metrics.get("curve") or [] if p.get("budget") == "epochs"]

    def share(training: Training) -> float:
        value = float(training.keep)
        return counts.get(training.keep, value * rows if value <= 1 else value) / rows

    with _style():
        figure, axes = _figure(3.2 if not by_epochs else 5.0, rows=1 + bool(by_epochs))
        methods = list(dict.fromkeys(t.method for t in sorted(kept, key=lambda t: not t.ours)))
        lines = {
            method: [(share(t), t.accuracy) for t in kept if t.method == method]
            for method in methods[:AT_MOST]
        }
        _retained(axes, lines)
        if by_epochs:
            axes.set_title("the same number of steps")
            figure.axes[1].set_title("the same number of epochs")
            again = {
                method: [
                    (p["rows"] / rows, p["accuracy"]) for p in by_epochs if p["selection"] == method
                ]
                for method in methods[:AT_MOST]
            }
            _retained(figure.axes[1], again)
        for training in trainings:
            if not training.keep and training.accuracy:
                for one in figure.axes:
                    label = "all rows" if one is axes else None
                    one.axhline(training.mean, color=MUTED, linestyle=":", label=label)
        figure.axes[-1].set_xlabel("rows kept (%)")
        for one in figure.axes:
            one.set_ylabel("test accuracy")
        _legend(figure, axes)
        return _inline(
            figure, "retained", "Test accuracy after retraining against the share of rows kept"
        )


def _retained(axes: Axes, lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]]) -> None:
    """A line a method: shares of rows kept with their accuracies, one a seed."""
    for i, (method, points) in enumerate(lines.items()):
        if not points:
            continue
        points = sorted(points, key=lambda point: point[0])
        found = [mean_and_spread(accuracy) for _, accuracy in points]
        axes.errorbar(
            [100 * share for share, _ in points],
            [mean for mean, _ in found],
            yerr=[spread or 0 for _, spread in found],
            color=SERIES[i],
            marker=_MARKERS[i],
            linestyle=_DASHES[i],
            capsize=3,
            label=method,
            linewidth=1.6,
        )


def _figure(height: float, rows: int = 1) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = [figure.add_subplot(rows, 1, i + 1) for i in range(rows)]
    for one in axes:
        one.grid(axis="y", color=GRID)
    return figure, axes[0]


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 4 if max(map(len, labels)) < 12 else 2
        figure.legend(handles, labels, loc="outside upper left", ncols=min(columns, len(labels)))


def _short(name: str) -> str:
    return one_line(name, 18)


def shown_of(names: Iterable[str], at_most: int = AT_MOST) -> str:
    """A remark where a picture leaves some out; empty where it does not."""
    count = len(list(names))
    return f"The {at_most} largest of {count} classes are drawn." if count > at_most else ""


def _style() -> contextlib.AbstractContextManager[None]:
    """A context in which figures are to be made."""
    return matplotlib.rc_context(_STYLE)


def _inline(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element.

    name: makes its ids unique in the page. label: what it shows, for those who do not see it.
    """
    file = io.BytesIO()
    with _style():
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    root = ET.fromstring(file.getvalue())
    for part in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(part)
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            element.set(key, _attribute(key, value, name))
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("role", "img")
    root.set("aria-label", label)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return ET.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == f"{{{_XLINK}}}href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    if key == "clip-path":
        return re.sub(r"url\(#", f"url(#{name}-", value)
    if key in ("style", "fill", "stroke"):
        for colour, variable in _VARIABLES.items():
            value = value.replace(colour, f"var(--{variable})")
        return re.sub(r"font-family: [^;]*|(font: [\d.]+px) [^;]*", r"\1", value)
    return value
