"""`sama rate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options
from samacli.cli.console import complain, say
from samacli.cli.launch import in_processes, is_worker
from samacli.cli.opening import progress
from samacli.cli.score import INTERRUPTED, LEFT, PrecisionChoice


def rate(
    context: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A finished run with a rater in it, or that folder: RUN/rater.",
            callback=options.home,
        ),
    ],
    data: Annotated[
        str, typer.Option("--data", help="File, folder, or data set on the hub, to be rated.")
    ],
    split: Annotated[
        str, typer.Option("--split", help="Split of it (not of a single file).")
    ] = "train",
    config: Annotated[
        str | None, typer.Option("--config", help="Hub: configuration of the data set.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Hub: commit, tag or branch.")
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Read from the hub, or from Parquet or JSON lines, without a copy in the cache.",
        ),
    ] = False,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 64,
    precision: Annotated[
        PrecisionChoice | None,
        typer.Option(
            "--precision",
            help="Of the model's arithmetic; by default the run's. bf16 leaves three digits.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that decode images.")
    ] = 0,
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", min=1, help="Rows a file; what a killed run loses.")
    ] = 10_000,
    nproc: options.Processes = 1,
    output: options.Output = Path("runs/ratings"),
    overwrite: options.Overwrite = False,
) -> None:
    """Rate rows that were never trained on, by what a run has learnt of slopes; resumable.

    A row's slope says by how much training on it, with the label that it has, lowers the loss of
    the clean rows: positive slopes help, negative ones hurt. Rows without a label have none.

    Run the same command again after an interruption: it goes on with the shards that are missing.

    Examples:

        sama rate runs/demo --data pool.csv --output runs/ratings

        sama select runs/ratings --score slope --keep 0.5 --output runs/chosen
    """
    from samacli.runs.score import score as run_score

    settings = options.settings(context)
    try:
        if in_processes(settings.arguments, nproc, left=LEFT):
            return
        result = run_score(
            run,
            data,
            output,
            split=split,
            config=config,
            revision=revision,
            stream=stream,
            text_column=text_column,
            image_column=image_column,
            label_column=label_column,
            rate=True,
            batch_size=batch_size,
            workers=workers,
            precision=None if precision is None else precision.value,
            rows_a_shard=shard_rows,
            overwrite=overwrite,
            device=settings.device.value,
            progress=progress(context),
        )
    except KeyboardInterrupt:
        if not is_worker():  # the launching process speaks
            complain(f"interrupted; {LEFT}", style="")
        raise typer.Exit(INTERRUPTED) from None
    say(
        f"{result.output}: {result.rows:,} rows rated ({result.resumed:,} of them before): slope, "
        f"weight; sama select {result.output} --score slope chooses by them"
    )
