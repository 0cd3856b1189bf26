"""`sama select`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options
from samacli.cli.console import say
from samacli.cli.opening import one_keep, progress
from samacli.errors import counted


def select(
    context: typer.Context,
    scores: Annotated[
        Path,
        typer.Argument(
            metavar="SCORES",
            help="A Parquet file with a score a row (scores.parquet), or a folder of such files.",
            show_default=False,
            callback=options.home,
        ),
    ],
    score: Annotated[str, typer.Option("--score", help="Column with the score.")] = "score",
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="How much to keep: a fraction (0.3) or a count (5000)."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Instead of --keep: every row that scores this or more."),
    ] = None,
    by_class: Annotated[
        str | None,
        typer.Option(
            "--by-class",
            metavar="COLUMN",
            help="Keep the classes of this column in their proportions.",
        ),
    ] = None,
    lowest: Annotated[
        bool, typer.Option("--lowest", help="Keep the lowest scores, not the highest.")
    ] = False,
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="What stands for a row in keep.txt; by default its 'index' where there is one, "
            "else its number, counted from 0.",
        ),
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Also write the kept rows of the score files, to kept/.")
    ] = False,
    memory: Annotated[
        int, typer.Option("--memory", metavar="MB", help="Memory that the sort may take.")
    ] = 1024,
    output: options.Output = Path("runs/select"),
    overwrite: options.Overwrite = False,
) -> None:
    """Choose rows by their scores, hundreds of millions of them if need be.

    Works on what prune, reweight and score leave, and on any Parquet with a column of scores. The
    scores are not loaded: they are sorted on disk, beside the output. Ties go to the earlier row;
    rows without a score come last.

    Examples:

        sama select runs/pruned/scores.parquet --keep 0.3 --output runs/kept

        sama select runs/scores --score el2n --keep 0.3 --by-class given_label --rows -o runs/kept
    """
    from samacli.runs.select import select as run

    result = run(
        scores,
        output,
        score=score,
        keep=None if keep is None else one_keep(keep),
        threshold=threshold,
        by_class=by_class,
        lowest=lowest,
        id_column=id_column,
        write_rows=rows,
        memory_mb=memory,
        overwrite=overwrite,
        progress=progress(context),
    )
    say(
        f"{result.output}: keep.txt ({result.kept:,} of {counted(result.rows, 'row')})"
        + (", kept/" if rows else "")
        + ", metrics.json"
    )
