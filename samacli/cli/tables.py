"""Tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from samacli.training.metrics import Evaluation
from samacli.workflows.bench.row import Row
from samacli.workflows.results import Method, mean_and_spread


def shown(values: list[float]) -> str:
    """`0.812 ± 0.010` over seeds, or one value, or a dash."""
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def methods_table(title: str, methods: Mapping[str, Method]) -> Table:
    """Test accuracy and macro-F1 of each method: mean ± standard deviation over the seeds."""
    table = Table(title=title, title_justify="left")
    table.add_column("training")
    for name in ("accuracy", "macro-F1", "seconds", "samples/s"):
        table.add_column(name, justify="right")
    for name, method in methods.items():
        table.add_row(
            name,
            shown(method.accuracy),
            shown(method.macro_f1),
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
            row.name,
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.3f}",
            f"{row.support:,}",
        )
    return table


def noise_sentence(noise: Mapping[str, float]) -> str:
    """What the detection of wrong labels is worth, beside chance."""
    return (
        f"wrong labels found by low weight: average precision {noise['average_precision']:.3f} "
        f"(chance {noise['noise_rate']:.3f}), AUROC {noise['auroc']:.3f}"
    )


def bench_table(rows: Sequence[Row]) -> Table:
    """Cost of each estimator beside plain training, setting by setting."""
    first = rows[0]
    table = Table(
        title=f"batch {first.batch_size} × {first.sequence_length} tokens a process, "
        f"{first.precision}, {first.device_name}; plain training = 1",
        title_justify="left",
    )
    for name in ("model", "estimator"):
        table.add_column(name)
    for name in ("unroll", "processes", "samples/s", "throughput", "quartiles", "memory", "MiB"):
        table.add_column(name, justify="right")
    before = None
    for row in rows:
        setting = (row.model, row.unroll, row.world_size)
        if before is not None and setting != before:
            table.add_section()
        before = setting
        model = row.model if row.parameters is None else f"{row.model} ({_millions(row)} M)"
        table.add_row(
            escape(model),
            row.estimator,
            str(row.unroll),
            str(row.world_size),
            *_figures(row),
            style="bold" if row.estimator == "sama" else None,
        )
    return table


def _millions(row: Row) -> str:
    return f"{(row.parameters or 0) / 1e6:,.1f}"


def _figures(row: Row) -> list[str]:
    if row.samples_per_second is None or row.relative_throughput is None:
        return ["failed", "", "", "", ""]
    low, high = row.relative_throughput_quartiles or [row.relative_throughput] * 2
    memory = "–" if row.relative_memory is None else f"{row.relative_memory:.2f}"
    return [
        f"{row.samples_per_second:,.1f}",
        f"{row.relative_throughput:.2f}",
        f"{low:.2f}–{high:.2f}",
        memory,
        f"{(row.peak_memory_bytes or 0) / 2**20:,.0f}",
    ]


def meta_step_table(rows: Sequence[Row]) -> Table | None:
    """The parts of a meta step in ms, and as a share of a plain step; None without SAMA."""
    rows = [row for row in rows if row.meta_step]
    if not rows:
        return None
    table = Table(title="a meta step, in ms (of a plain step)", title_justify="left")
    for name in ("model", "estimator", "form"):
        table.add_column(name)
    parts = ("meta_backward", "adaptation", "derivative", "meta_update")
    for name in ("plain step", *(part.replace("_", " ") for part in parts), "adaptation/backward"):
        table.add_column(name, justify="right")
    for row in rows:
        seconds = row.meta_step or {}
        base = ("base_forward", "base_backward", "optimizer_step")
        plain = sum(seconds[part] for part in base)
        shares = [
            f"{1000 * seconds[part]:,.1f} ({seconds[part] / plain:.0%})" if part in seconds else "–"
            for part in parts
        ]
        of_backward = seconds.get("adaptation", 0.0) / seconds["base_backward"]
        table.add_row(
            escape(f"{row.model}, unroll {row.unroll}, {row.world_size} proc."),
            row.estimator,
            row.form,
            f"{1000 * plain:,.1f}",
            *shares,
            f"{of_backward:.0%}" if "adaptation" in seconds else "–",
        )
    return table


def derivatives_table(rows: Sequence[Row]) -> Table | None:
    """Error and cost of each form of directional derivative; None if they were not compared."""
    rows = [row for row in rows if row.derivatives]
    if not rows:
        return None
    table = Table(
        title="forms of directional derivative: relative errors against float64",
        title_justify="left",
    )
    for name in ("model", "form", "precision"):
        table.add_column(name)
    for name in ("error", "of the whole meta gradient", "cost, plain step = 1"):
        table.add_column(name, justify="right")
    for row in rows:
        for found in row.derivatives or []:
            errors = (found["error"], found["meta_gradient_error"])
            table.add_row(
                escape(row.model),
                found["form"],
                found["precision"],
                *("–" if error is None else f"{error:.1e}" for error in errors),
                f"{found['relative_cost']:.2f}",
            )
    return table
