"""`sama bench`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, print_json, stderr, stdout
from samacli.errors import SamaError

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
    from samacli.lab.bench import Plan, contenders, settings
    from samacli.lab.bench import bench as run
    from samacli.lab.commands.bench_view import bench_table, derivatives_table, meta_step_table

    chosen = options.settings(context)
    to_stdout = json == Path("-")
    json = None if to_stdout else json
    world_sizes = _counts("--nproc", nproc)
    where = settings(
        _names(model),
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
            where,
            contenders(None if estimators is None else _names(estimators), world_sizes),
            Plan(rounds=rounds, steps=steps, derivatives=derivatives, in_process=in_process),
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


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _counts(option: str, text: str) -> list[int]:
    names = _names(text)
    if not names or not all(name.isdecimal() and int(name) > 0 for name in names):
        raise SamaError(f"{option} '{text}' is not a whole number above 0, or a list such as 1,2,4")
    return [int(name) for name in names]
