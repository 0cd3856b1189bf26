"""`sama rate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options, shards
from samacli.cli.console import say
from samacli.errors import counted


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
    split: shards.Split = "train",
    config: shards.Configuration = None,
    revision: shards.Revision = None,
    stream: shards.Stream = False,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    batch_size: shards.BatchSize = 64,
    precision: shards.Precision = None,
    workers: shards.Workers = 0,
    shard_rows: shards.ShardRows = 10_000,
    nproc: options.Processes = 1,
    output: options.Output = Path("runs/ratings"),
    overwrite: options.Overwrite = False,
) -> None:
    """Rate rows that were never trained on, by what a run has learnt of slopes; resumable.

    A row's slope says by how much training on it, with the label that it has, lowers the loss of
    the clean rows: positive slopes help, negative ones hurt. Rows without a label have none. It
    knows the kinds of mistakes that the run's training rows had: a class taken for another in a
    way that none of them was may be rated either way.

    Run the same command again after an interruption: it goes on with the shards that are missing.

    Examples:

        sama rate runs/demo --data pool.csv --output runs/ratings

        sama select runs/ratings --score slope --keep 0.5 --output runs/chosen
    """
    result = shards.in_shards(
        context,
        nproc,
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
        precision=precision,
        workers=workers,
        rows_a_shard=shard_rows,
        overwrite=overwrite,
    )
    if result is None:
        return
    say(
        f"{result.output}: {counted(result.rows, 'row')} rated ({result.resumed:,} of them "
        "before): slope, "
        f"weight; sama select {result.output} --score slope chooses by them"
    )
