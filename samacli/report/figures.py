"""The pictures of a report: SVG that lives in a page, with the page's colours, light or dark."""

from __future__ import annotations

import contextlib
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
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
_LETTERS = 18  # of a class's name


@contextlib.contextmanager
def _drawn() -> Iterator[None]:
    """The style in which a function draws and gives its picture out."""
    with matplotlib.rc_context(_STYLE):
        yield


@_drawn()
def accuracies(trainings: Sequence[Training]) -> Markup | None:
    """A line a training: each seed's accuracy, and their mean with its standard deviation."""
    shown = [training for training in trainings if training.accuracy]
    if not shown:
        return None
    figure, axes = _figure(0.8 + 0.36 * len(shown))
    for place, training in enumerate(reversed(shown)):
        colour = SERIES[0] if training.ours else MUTED
        mean, spread = mean_and_spread(training.accuracy)
        axes.errorbar(mean, place, xerr=spread, color=colour, fmt="o", markersize=7, elinewidth=2)
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


@_drawn()
def weight_by_loss(run: FinishedRun) -> Markup | None:
    """The learnt weight as a function of the loss, a line a class, over the examples as points.

    None where no row has a loss.
    """
    scores = run.scores
    drawn = np.flatnonzero(scores.labelled & np.isfinite(scores.loss) & np.isfinite(scores.weight))
    if not len(drawn):
        return None
    drawn = drawn[np.unique(np.linspace(0, len(drawn) - 1, _POINTS).round().astype(int))]
    loss, weight = scores.loss[drawn], scores.weight[drawn]
    figure, axes = _figure(3.6)
    axes.scatter(loss, weight, s=9, color=MUTED, alpha=0.3, linewidths=0)
    for i, (name, *curve) in enumerate(functions(run)):
        axes.plot(*curve, _DASHES[i], color=SERIES[i], label=one_line(name, _LETTERS))
    axes.set_xlim(0, max(float(np.quantile(loss, 0.995)) * 1.05, 1e-3))
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


@_drawn()
def weight_distribution(scores: Scores) -> Markup | None:
    """A box a class: quartiles, with whiskers to the 5th and 95th percentile, and the mean."""
    classes = scores.classes[: 2 * AT_MOST]
    if not classes:
        return None
    figure, axes = _figure(0.9 + 0.34 * len(classes))
    names = ("whislo", "q1", "med", "q3", "whishi", "mean")
    axes.bxp(
        [
            {"label": one_line(name, _LETTERS), **dict(zip(names, values, strict=True))}
            for name in reversed(classes)
            for values in [scores.quantiles(name)]
        ],
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


@_drawn()
def reliability(run: FinishedRun) -> Markup | None:
    """How often labels are wrong against how probable that was said to be; None if not fitted."""
    bins = (run.metrics.get("calibration") or {}).get("bins")
    if not bins:
        return None
    said, wrong, low, high = (
        np.array([one[name] for one in bins]) for name in ("probability", "wrong", "low", "high")
    )
    figure, axes = _figure(3.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    # The interval of a weighted share can end at the share itself, give or take rounding.
    errors = np.maximum([wrong - low, high - wrong], 0)
    axes.errorbar(said, wrong, yerr=errors, color=SERIES[0], marker="o", capsize=3, linewidth=1.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("P(wrong) as told")
    axes.set_ylabel("share that is wrong")
    return _inline(figure, "reliability", "Share of wrong labels against their probability as told")


@_drawn()
def learning(run: FinishedRun) -> Markup | None:
    """Losses of the base level of each training, and of the meta level; means over seeds."""
    methods = list(dict.fromkeys(line["method"] for line in run.learning))
    # SAMA's first: its colour is the same in every picture.
    methods = sorted(methods, key=lambda name: not name.startswith(("sama", "scoring")))[:AT_MOST]
    if not methods:
        return None
    base = {name: _mean_curve(run, name, "loss") for name in methods}
    meta = {name: _mean_curve(run, name, "meta_loss") for name in methods}
    panels = {"base level": base}
    if any(map(len, meta.values())):
        panels["meta level"] = {name: curve for name, curve in meta.items() if len(curve)}
    figure, first = _figure(1.2 + 1.7 * len(panels), rows=len(panels))
    for axes, (title, curves) in zip(figure.axes, panels.items(), strict=True):
        for name, curve in curves.items():
            i = methods.index(name)
            axes.plot(*curve.T, _DASHES[i], color=SERIES[i], label=name, linewidth=1.4)
        axes.set_title(f"{title}: loss (nats)")
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, max(float(curve[-1, 0]) for curve in base.values() if len(curve)))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.axes[-1].set_xlabel("step")
    _legend(figure, first)
    return _inline(figure, "learning", "Loss against step, of the base level and the meta level")


def _mean_curve(run: FinishedRun, method: str, column: str) -> np.ndarray:
    """(points, 2): step and mean over seeds."""
    by_step: dict[int, list[float]] = {}
    for line in run.learning:
        if line["method"] == method and line[column]:
            by_step.setdefault(int(line["step"]), []).append(float(line[column]))
    return np.array([(step, np.mean(by_step[step])) for step in sorted(by_step)]).reshape(-1, 2)


@_drawn()
def retained_accuracy(run: FinishedRun, trainings: Sequence[Training]) -> Markup | None:
    """Accuracy after retraining against the share of rows kept; None where nothing was measured."""
    kept = [training for training in trainings if training.keep and training.accuracy]
    if not kept:
        return None
    rows = max(run.rows.get("train", 0), 1)
    counts = run.metrics.get("keep", {})

    def share(training: Training) -> float:
        value = float(training.keep)
        return counts.get(training.keep, value * rows if value <= 1 else value) / rows

    methods = list(dict.fromkeys(t.method for t in sorted(kept, key=lambda t: not t.ours)))
    panels = {"steps": [(t.method, share(t), t.accuracy) for t in kept]}
    # Of a verified pruning, on the test rows that do not judge what is recommended; and again with
    # as many epochs as on all rows.
    curve = [p for p in run.metrics.get("curve") or [] if p.get("keep")]
    for p in curve:
        panels.setdefault(p["budget"], [])
    for budget in panels if curve else ():
        panels[budget] = [
            (p["selection"], p["rows"] / rows, p["accuracy"])
            for p in curve
            if p["budget"] == budget
        ]
    figure, first = _figure(1.4 + 1.8 * len(panels), rows=len(panels))
    for axes, (budget, points) in zip(figure.axes, panels.items(), strict=True):
        for i, method in enumerate(methods[:AT_MOST]):
            _retained(axes, i, method, [point for name, *point in points if name == method])
        for training in trainings:
            if not training.keep and training.accuracy:
                label = "all rows" if axes is first else None
                axes.axhline(training.mean, color=MUTED, linestyle=":", label=label)
        axes.set_ylabel("test accuracy")
        if len(panels) > 1:
            axes.set_title(f"the same number of {budget}")
    figure.axes[-1].set_xlabel("rows kept (%)")
    _legend(figure, first)
    label = "Test accuracy after retraining against the share of rows kept"
    return _inline(figure, "retained", label)


def _retained(axes: Axes, i: int, method: str, points: Sequence[Sequence[Any]]) -> None:
    """The i-th line: shares of rows kept with their accuracies, one a seed."""
    points = sorted(points, key=lambda point: point[0])
    found = [mean_and_spread(accuracy) for _, accuracy in points]
    if found:
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
    """A figure of so many panels, and the first of them."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    for i in range(rows):
        figure.add_subplot(rows, 1, i + 1).grid(axis="y", color=GRID)
    return figure, figure.axes[0]


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 4 if max(map(len, labels)) < 12 else 2
        figure.legend(handles, labels, loc="outside upper left", ncols=min(columns, len(labels)))


def _inline(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element, text in it escaped as XML.

    name: makes its ids unique in the page. label: what it shows, for those who do not see it.
    """
    file = io.BytesIO()
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
    return Markup(ET.tostring(root, encoding="unicode"))


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
