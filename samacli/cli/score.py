"""`sama score`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options, shards
from samacli.cli.console import say
from samacli.errors import counted
from samacli.registry import scores_of


def score(
    context: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A finished run that holds a model, or a saved model.",
            callback=options.home,
        ),
    ],
    data: Annotated[
        str, typer.Option("--data", help="File, folder, or data set on the hub, to be scored.")
    ],
    split: shards.Split = "train",
    config: shards.Configuration = None,
    revision: shards.Revision = None,
    stream: shards.Stream = False,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    scores: Annotated[
        str | None,
        typer.Option(
            "--scores",
            help=f"Which, with commas: {', '.join(scores_of('score'))}; by default all.",
        ),
    ] = None,
    batch_size: shards.BatchSize = 64,
    precision: shards.Precision = None,
    workers: shards.Workers = 0,
    shard_rows: shards.ShardRows = 10_000,
    nproc: options.Processes = 1,
    output: options.Output = Path("runs/scores"),
    overwrite: options.Overwrite = False,
) -> None:
    """Score every row of a data set by a trained model, in shards, resumable.

    Run the same command again after an interruption: it goes on with the shards that are missing.

    Examples:

        sama score runs/demo --data train.csv --output runs/scores

        sama score runs/photos --data owner/photos --stream --nproc 4 --output runs/scores
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
        names=None if scores is None else [name.strip() for name in scores.split(",")],
        batch_size=batch_size,
        precision=precision,
        workers=workers,
        rows_a_shard=shard_rows,
        overwrite=overwrite,
    )
    if result is None:
        return
    say(
        f"{result.output}: {counted(result.rows, 'row')} scored ({result.resumed:,} of them "
        "before), "
        f"{', '.join(result.scores)}; sama select {result.output} --score {result.scores[0]} "
        "chooses by them"
    )
