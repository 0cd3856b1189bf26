"""`sama bench`"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, print_json, say, stderr
from samacli.cli.tables import compact_table
from samacli.errors import SamaError

if TYPE_CHECKING:
    from samacli.lab.bench.workload import Measurement

INTERRUPTED = 130
SETTING = "What is trained (lists with commas: every combination is a setting)"
setting = partial(typer.Option, rich_help_panel=SETTING)
measured = partial(typer.Option, rich_help_panel="How it is measured")
result = partial(typer.Option, rich_help_panel="Results")
MODEL = (
    "bert-tiny, bert-mini, minilm, bert-base or bert-large (random weights, no download), or a hub "
    "name or path."
)
ESTIMATORS = (
    "sama, sama-na, neumann, cg, unrolled, betty-sama, betty-darts; the first two also with a "
    "form: sama:riding, sama:sharing, sama:apart. Default: all that can run. Plain training always "
    "takes part."
)
STEPS = (
    "Base steps a chunk, rounded up to whole meta steps. Default: about 3 seconds of plain "
    "training."
)
DERIVATIVES = "Also compare the forms of directional derivative with float64."
IN_PROCESS = "Start no process for each estimator: quicker, and as exact on one GPU."
JSON = "Write the rows to this file (replaced if it is there); - prints them in place of tables."
PLOT = "Draw the rows into this PNG file (replaced if it is there)."


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


def bench(
    context: typer.Context,
    model: Annotated[str, setting("--model", help=MODEL)] = "minilm",
    batch_size: Annotated[int, setting("--batch-size", min=1, help="Examples a process.")] = 16,
    sequence_length: Annotated[
        int, setting("--sequence-length", min=1, help="Tokens an example.")
    ] = 64,
    unroll: Annotated[str, setting("--unroll", help="Base steps to a meta step.")] = "1",
    nproc: Annotated[str, setting("--nproc", help="Processes, each with its own batch.")] = "1",
    precision: Annotated[
        Precision,
        setting("--precision", help="auto: bf16 autocast where the device computes in it."),
    ] = Precision.auto,
    estimators: Annotated[str | None, measured("--estimators", help=ESTIMATORS)] = None,
    rounds: Annotated[
        int, measured("--rounds", min=1, help="Pairs of chunks to each estimator.")
    ] = 5,
    steps: Annotated[int | None, measured("--steps", min=1, help=STEPS)] = None,
    derivatives: Annotated[bool, measured("--derivatives", help=DERIVATIVES)] = False,
    in_process: Annotated[bool, measured("--in-process", help=IN_PROCESS)] = False,
    json: Annotated[Path | None, result("--json", help=JSON)] = None,
    plot: Annotated[Path | None, result("--plot", help=PLOT)] = None,
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
    file = None if json == Path("-") else json
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
            json_file=file,
            plot_file=plot,
            progress=QuietProgress() if chosen.quiet else ConsoleProgress(),
        )
    except KeyboardInterrupt:
        if file is None or not file.is_file():
            raise
        stderr.print(f"interrupted; the settings measured before are in {file}", markup=False)
        raise typer.Exit(INTERRUPTED) from None
    if json is not None and file is None:
        print_json([row.as_dict() for row in rows])
        return
    written = ", ".join(str(one) for one in (file, plot) if one is not None)
    say(bench_table(rows), meta_step_table(rows), derivatives_table(rows), written or None)


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
    table = _table(
        f"batch {first.batch_size} × {first.sequence_length} tokens a process, "
        f"{first.precision}, {first.device_name}; plain = 1",
        ("setting", "estimator"),
        ("samples/s", "throughput", "peak memory"),
    )
    for _, group in groupby(rows, key=lambda row: (row.model, row.unroll, row.world_size)):
        found = list(group)
        # A worker that failed may not have counted its parameters.
        for label, row in zip(_labels(found[0], len(found)), found, strict=True):
            style = "bold" if row.estimator == "sama" else None
            table.add_row(label, row.estimator, *_figures(row), style=style)
        table.add_section()
    return table


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = compact_table(title)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _figures(row: Measurement) -> list[str]:
    if row.samples_per_second is None or row.relative_throughput is None:
        return ["failed", "", ""]
    low, high = row.relative_throughput_quartiles or [row.relative_throughput] * 2
    memory = "–" if row.relative_memory is None else f"{row.relative_memory:.2f}"
    return [
        f"{row.samples_per_second:,.1f}",
        f"{row.relative_throughput:.2f} ({low:.2f}–{high:.2f})",
        f"{memory} ({(row.peak_memory_bytes or 0) / 2**20:,.0f} MiB)",
    ]


def meta_step_table(rows: Sequence[Measurement]) -> Table | None:
    """The parts of a meta step in ms, and as a share of a plain step; None without SAMA."""
    rows = [row for row in rows if row.meta_step]
    if not rows:
        return None
    table = _table(
        "a meta step, part by part",
        ("setting", "estimator", "part"),
        ("ms", "of a plain step", "of its backward"),
    )
    for row in rows:
        seconds = row.meta_step or {}
        plain = sum(seconds[part] for part in ("base_forward", "base_backward", "optimizer_step"))
        parts = ("meta_backward", "adaptation", "derivative", "meta_update")
        own = [part for part in parts if part in seconds]
        labels = _labels(row, len(own))
        estimator = _in_rows([row.estimator, f"({row.form})"], len(own))
        for label, name, part in zip(labels, estimator, own, strict=True):
            table.add_row(
                label,
                name,
                part.replace("_", " "),
                f"{1000 * seconds[part]:,.1f}",
                f"{seconds[part] / plain:.0%}",
                f"{seconds[part] / seconds['base_backward']:.0%}",
            )
        table.add_section()
    return table


def _labels(row: Measurement, rows: int) -> list[str]:
    """The setting in lines that are short enough for a column."""
    size = [] if row.parameters is None else [f"{row.parameters / 1e6:,.1f} M param."]
    setting = f"unroll {row.unroll}, {row.world_size} proc."
    return _in_rows([escape(Path(row.model).name), *size, setting], rows)


def _in_rows(lines: list[str], rows: int) -> list[str]:
    """The lines, one to each row; the last row takes what is left."""
    lines = [*lines, *[""] * (rows - len(lines))]
    return [*lines[: rows - 1], "\n".join(lines[rows - 1 :])]


def derivatives_table(rows: Sequence[Measurement]) -> Table | None:
    """Error and cost of each form of directional derivative; None if they were not compared."""
    compared = [row for row in rows if row.derivatives]
    if not compared:
        return None
    table = _table(
        "forms of directional derivative: relative error against float64, cost",
        ("model", "precision", "form"),
        ("derivative", "whole meta gradient", "cost / plain step"),
    )
    for row in compared:
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
