"""`sama bench`"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, print_json, stderr, stdout
from samacli.cli.tables import compact_table
from samacli.errors import SamaError

if TYPE_CHECKING:
    from samacli.lab.bench.workload import Measurement

INTERRUPTED = 130
SETTING = "What is trained (lists with commas: every combination is a setting)"
MEASUREMENT = "How it is measured"
RESULTS = "Results"


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


def bench(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="bert-tiny, bert-mini, minilm, bert-base or bert-large (random weights, no "
            "download), or a hub name or path.",
            rich_help_panel=SETTING,
        ),
    ] = "minilm",
    batch_size: Annotated[
        int,
        typer.Option("--batch-size", min=1, help="Examples a process.", rich_help_panel=SETTING),
    ] = 16,
    sequence_length: Annotated[
        int,
        typer.Option(
            "--sequence-length", min=1, help="Tokens an example.", rich_help_panel=SETTING
        ),
    ] = 64,
    unroll: Annotated[
        str, typer.Option("--unroll", help="Base steps to a meta step.", rich_help_panel=SETTING)
    ] = "1",
    nproc: Annotated[
        str,
        typer.Option(
            "--nproc", help="Processes, each with its own batch.", rich_help_panel=SETTING
        ),
    ] = "1",
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="auto: bf16 autocast where the device computes in it.",
            rich_help_panel=SETTING,
        ),
    ] = Precision.auto,
    estimators: Annotated[
        str | None,
        typer.Option(
            "--estimators",
            help="sama, sama-na, neumann, cg, unrolled, betty-sama, betty-darts; the first two "
            "also with a form: sama:riding, sama:sharing, sama:apart. Default: all that can run. "
            "Plain training always takes part.",
            rich_help_panel=MEASUREMENT,
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            min=1,
            help="Pairs of chunks to each estimator.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = 5,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="Base steps a chunk, rounded up to whole meta steps. Default: about 3 seconds "
            "of plain training.",
            rich_help_panel=MEASUREMENT,
            show_default=False,
        ),
    ] = None,
    derivatives: Annotated[
        bool,
        typer.Option(
            "--derivatives",
            help="Also compare the forms of directional derivative with float64.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = False,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process",
            help="Start no process for each estimator: quicker, and as exact on one GPU.",
            rich_help_panel=MEASUREMENT,
        ),
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write the rows to this file (replaced if it is there); - prints them in place of "
            "tables.",
            rich_help_panel=RESULTS,
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help="Draw the rows into this PNG file (replaced if it is there).",
            rich_help_panel=RESULTS,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure what each estimator of the meta gradient costs, beside plain training.

    Plain training and one estimator at a time take turns, each in processes of its own, so that
    throughput is compared side by side and peak memory is each one's own. Random data.

    Examples:

        sama bench --json runs/bench.json

        sama bench --model bert-tiny,minilm,bert-base --nproc 1,2 --plot runs/bench.png

        sama bench --estimators sama,sama-na --derivatives --precision fp32
    """
    from samacli.lab.bench.run import bench as run
    from samacli.lab.bench.steps import contenders
    from samacli.lab.bench.workload import workloads

    chosen = options.settings(context)
    to_stdout = json == Path("-")
    json = None if to_stdout else json
    world_sizes = _counts("--nproc", nproc)
    loads = workloads(
        names_of(model),
        _counts("--unroll", unroll),
        world_sizes,
        batch_size=batch_size,
        sequence_length=sequence_length,
        device=chosen.device.value,
        precision=precision.value,
        seed=chosen.seed or 0,
    )
    try:
        rows = run(
            loads,
            contenders(None if estimators is None else names_of(estimators), world_sizes),
            rounds=rounds,
            steps=steps,
            derivatives=derivatives,
            in_process=in_process,
            json_file=json,
            plot_file=plot,
            progress=QuietProgress() if chosen.quiet else ConsoleProgress(),
        )
    except KeyboardInterrupt:
        if json is None or not json.is_file():
            raise
        stderr.print(f"interrupted; the settings measured before are in {json}", markup=False)
        raise typer.Exit(INTERRUPTED) from None
    if to_stdout:
        print_json([row.as_dict() for row in rows])
        return
    for table in (bench_table(rows), meta_step_table(rows), derivatives_table(rows)):
        if table is not None:
            stdout.print(table)
    written = [str(file) for file in (json, plot) if file is not None]
    if written:
        stdout.print(", ".join(written), highlight=False, soft_wrap=True, markup=False)


def names_of(text: str | None) -> list[str]:
    """A list with commas, each once."""
    return list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def _counts(option: str, text: str) -> list[int]:
    names = names_of(text)
    if not names or not all(name.isdecimal() and int(name) > 0 for name in names):
        raise SamaError(f"{option} '{text}' is not a whole number above 0, or a list such as 1,2,4")
    return [int(name) for name in names]


def bench_table(rows: Sequence[Measurement]) -> Table:
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
        labels = _labels(*_workload(found[0]))
        for i, row in enumerate(found):
            table.add_row(
                _label(labels, i, len(found)),
                row.estimator,
                *_figures(row),
                style="bold" if row.estimator == "sama" else None,
            )
        table.add_section()
    return table


def _figures(row: Measurement) -> list[str]:
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


def meta_step_table(rows: Sequence[Measurement]) -> Table | None:
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
        labels = _labels(*_workload(row))
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


def _workload(row: Measurement) -> tuple[str, int | None, int, int]:
    return row.model, row.parameters, row.unroll, row.world_size


def _labels(model: str, parameters: int | None, unroll: int, world_size: int) -> list[str]:
    """The setting in lines that are short enough for a column."""
    size = [] if parameters is None else [f"{parameters / 1e6:,.1f} M param."]
    return [escape(Path(model).name), *size, f"unroll {unroll}, {world_size} proc."]


def _label(lines: list[str], row: int, rows: int) -> str:
    """The line for a row of a group; the last row takes what is left."""
    return "\n".join(lines[row:]) if row == rows - 1 else lines[row] if row < len(lines) else ""


def derivatives_table(rows: Sequence[Measurement]) -> Table | None:
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
