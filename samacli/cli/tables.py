"""Tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from samacli.export.escape import one_line
from samacli.lab.bench.row import Row
from samacli.runs.results import Method, mean_and_spread
from samacli.training.metrics import Evaluation


def shown(values: list[float]) -> str:
    """`0.812 ± 0.010` over seeds, or one value, or a dash."""
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def methods_table(title: str, methods: Mapping[str, Method]) -> Table:
    """Test accuracy and macro-F1 of each method: mean ± standard deviation over the seeds.

    And how well its own scores find wrong labels, where any method's are known.
    """
    with_noise = any(method.noise for method in methods.values())
    table = _compact_table(title)
    table.add_column("training", no_wrap=True)
    found = ("noise AP", "AUROC") if with_noise else ()
    for name in ("accuracy", "macro-F1", *found, "seconds", "samples/s"):
        table.add_column(name, justify="right")
    for name, method in methods.items():
        detection = (shown(method.average_precision), shown(method.auroc)) if with_noise else ()
        table.add_row(
            name,
            shown(method.accuracy),
            shown(method.macro_f1),
            *detection,
            f"{mean_and_spread(method.seconds)[0]:,.0f}",
            f"{mean_and_spread(method.samples_per_second)[0]:,.0f}",
            style="bold" if name.startswith("sama") and "-na" not in name else None,
        )
    return table


def classes_table(evaluation: Evaluation) -> Table:
    """Precision, recall and F1 of each class."""
    table = Table(title="by class", title_justify="left")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "examples"):
        table.add_column(name, justify="right")
    for row in evaluation.classes:
        table.add_row(
            escape(one_line(row.name)),
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.3f}",
            f"{row.support:,}",
        )
    return table


def noise_sentence(noise: Mapping[str, float]) -> str:
    """What the detection of wrong labels is worth, beside chance."""
    return (
        f"wrong labels found: average precision {noise['average_precision']:.3f} "
        f"(chance {noise['noise_rate']:.3f}), AUROC {noise['auroc']:.3f}"
    )


def rare_class_sentence(class_rows: Mapping[str, int], methods: Mapping[str, Method]) -> str | None:
    """How well the rarest training class is found; None where no class is rare or none is tested.

    Rare: the largest class has ten times as many rows.
    """
    rows = {name: count for name, count in class_rows.items() if count}
    name = min(rows, key=lambda name: rows[name])
    if max(rows.values()) < 10 * rows[name]:
        return None
    found = {
        method: [recall[name] for recall in measured.recall]
        for method, measured in methods.items()
        if measured.recall
    }
    if not found:
        return None
    shares = ", ".join(f"{method} {shown(values)}" for method, values in found.items())
    return (
        f"recall of the rarest class, {one_line(name)} ({rows[name]:,} of "
        f"{sum(rows.values()):,} training rows): {shares}"
    )


def bench_table(rows: Sequence[Row]) -> Table:
    """Cost of each estimator beside plain training, setting by setting; quartiles in brackets."""
    first = rows[0]
    table = _compact_table(
        f"batch {first.batch_size} × {first.sequence_length} tokens a process, "
        f"{first.precision}, {first.device_name}; plain = 1"
    )
    for name in ("setting", "estimator"):
        table.add_column(name, no_wrap=True)
    for name in ("samples/s", "throughput", "peak memory"):
        table.add_column(name, justify="right")
    for _, group in groupby(rows, key=lambda row: (row.model, row.unroll, row.world_size)):
        found = list(group)
        # A worker that failed may not have counted its parameters.
        labels = _labels(*_setting(found[0]))
        for i, row in enumerate(found):
            table.add_row(
                _label(labels, i, len(found)),
                row.estimator,
                *_figures(row),
                style="bold" if row.estimator == "sama" else None,
            )
        table.add_section()
    return table


def _figures(row: Row) -> list[str]:
    if row.samples_per_second is None or row.relative_throughput is None:
        return ["failed", "", ""]
    low, high = row.relative_throughput_quartiles or [row.relative_throughput] * 2
    mebibytes = (row.peak_memory_bytes or 0) / 2**20
    memory = "–" if row.relative_memory is None else f"{row.relative_memory:.2f}"
    return [
        f"{row.samples_per_second:,.1f}",
        f"{row.relative_throughput:.2f} ({low:.2f}–{high:.2f})",
        f"{memory} ({mebibytes:,.0f} MiB)",
    ]


def meta_step_table(rows: Sequence[Row]) -> Table | None:
    """The parts of a meta step in ms, and as a share of a plain step; None without SAMA."""
    rows = [row for row in rows if row.meta_step]
    if not rows:
        return None
    table = _compact_table("a meta step, part by part")
    for name in ("setting", "estimator", "part"):
        table.add_column(name, no_wrap=True)
    for name in ("ms", "of a plain step", "of its backward"):
        table.add_column(name, justify="right")
    parts = ("meta_backward", "adaptation", "derivative", "meta_update")
    for row in rows:
        seconds = row.meta_step or {}
        plain = sum(seconds[part] for part in ("base_forward", "base_backward", "optimizer_step"))
        labels = _labels(*_setting(row))
        own = [part for part in parts if part in seconds]
        for i, part in enumerate(own):
            table.add_row(
                _label(labels, i, len(own)),
                _label([row.estimator, f"({row.form})"], i, len(own)),
                part.replace("_", " "),
                f"{1000 * seconds[part]:,.1f}",
                f"{seconds[part] / plain:.0%}",
                f"{seconds[part] / seconds['base_backward']:.0%}",
            )
        table.add_section()
    return table


def _compact_table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _setting(row: Row) -> tuple[str, int | None, int, int]:
    return row.model, row.parameters, row.unroll, row.world_size


def _labels(model: str, parameters: int | None, unroll: int, world_size: int) -> list[str]:
    """The setting in lines that are short enough for a column."""
    size = [] if parameters is None else [f"{parameters / 1e6:,.1f} M param."]
    return [escape(Path(model).name), *size, f"unroll {unroll}, {world_size} proc."]


def _label(lines: list[str], row: int, rows: int) -> str:
    """The line for a row of a group; the last row takes what is left."""
    return "\n".join(lines[row:]) if row == rows - 1 else lines[row] if row < len(lines) else ""


def derivatives_table(rows: Sequence[Row]) -> Table | None:
    """Error and cost of each form of directional derivative; None if they were not compared."""
    rows = [row for row in rows if row.derivatives]
    if not rows:
        return None
    table = _compact_table("forms of directional derivative: relative error against float64, cost")
    for name in ("model", "precision", "form"):
        table.add_column(name)
    for name in ("derivative", "whole meta gradient", "cost / plain step"):
        table.add_column(name, justify="right")
    for row in rows:
        for i, found in enumerate(row.derivatives or []):
            errors = (found["error"], found["meta_gradient_error"])
            table.add_row(
                escape(Path(row.model).name) if i == 0 else "",
                found["precision"],
                found["form"],
                *("–" if error is None else f"{error:.1e}" for error in errors),
                f"{found['relative_cost']:.2f}",
            )
        table.add_section()
    return table
