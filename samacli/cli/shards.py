"""What `sama score` and `sama rate` share: going through a data set by a model, in shards."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samacli.cli import options
from samacli.cli.console import complain
from samacli.cli.launch import INTERRUPTED, in_processes, is_worker
from samacli.cli.opening import progress

if TYPE_CHECKING:
    from samacli.runs.score import ScoreResult

_LEFT = "the finished shards stay, and the same command goes on with the others"


class PrecisionChoice(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


Split = Annotated[str, typer.Option("--split", help="Split of it (not of a single file).")]
Configuration = Annotated[
    str | None, typer.Option("--config", help="Hub: configuration of the data set.")
]
Revision = Annotated[str | None, typer.Option("--revision", help="Hub: commit, tag or branch.")]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Read from the hub, or from Parquet or JSON lines, without a copy in the cache.",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1)]
Precision = Annotated[
    PrecisionChoice | None,
    typer.Option(
        "--precision",
        help="Of the model's arithmetic; by default the run's. bf16 leaves three digits.",
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that decode images.")]
ShardRows = Annotated[
    int, typer.Option("--shard-rows", min=1, help="Rows a file; what a killed run loses.")
]


def in_shards(
    context: typer.Context,
    processes: int,
    run: Path,
    data: str,
    output: Path,
    *,
    precision: PrecisionChoice | None,
    **given: Any,
) -> ScoreResult | None:
    """`samacli.runs.score.score` as the command line asks for it; given: its other arguments.

    None where processes were started that do it and speak for themselves. Ends the command with
    exit code 130 where it is interrupted.
    """
    from samacli.runs.score import score

    settings = options.settings(context)
    try:
        if in_processes(settings.arguments, processes, left=_LEFT):
            return None
        return score(
            run,
            data,
            output,
            precision=None if precision is None else precision.value,
            device=settings.device.value,
            progress=progress(context),
            **given,
        )
    except KeyboardInterrupt:
        if not is_worker():  # the launching process speaks
            complain(f"interrupted; {_LEFT}", style="")
        raise typer.Exit(INTERRUPTED) from None
