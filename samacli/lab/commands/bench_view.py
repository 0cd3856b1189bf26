"""What `sama bench` shows: costs beside plain training, the parts of a meta step, derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from samacli.cli.tables import compact_table
from samacli.lab.bench.row import Row


def bench_table(rows: Sequence[Row]) -> Table:
    """Cost of each estimator beside plain training, setting by setting; quartiles in brackets."""
    first = rows[0]
    table = compact_table(
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
    table = compact_table("a meta step, part by part")
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
    table = compact_table("forms of directional derivative: relative error against float64, cost")
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
