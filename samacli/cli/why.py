"""`sama why`"""

from __future__ import annotations

from typing import Annotated

import typer

from samacli.cli import options
from samacli.cli.opening import progress, tell
from samacli.cli.report import Directory


def why(
    context: typer.Context,
    directory: Directory,
    row: Annotated[
        int | None,
        typer.Option(
            "--row",
            min=0,
            help="A training row: its position in the input, counted from 0.",
            show_default=False,
        ),
    ] = None,
    clean: Annotated[
        int | None,
        typer.Option(
            "--clean",
            min=0,
            help="A clean row instead: which training rows help and hurt it.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Which clean rows a training row helps and hurts, and which label would help them.

    An effect is what a row's loss falls by, in nats, where the other stands in the next batch at
    weight 1: above 0 it helps, below 0 it hurts. It is of the trained model, to first order, by the
    run's optimiser. The run's data are read again from where they were.

    Examples:

        sama why runs/mine --row 17

        sama why runs/mine --clean 5
    """
    from samacli.cli.tables import others_table, why_table
    from samacli.runs.why import why as run

    found = run(
        directory,
        row=row,
        clean=clean,
        device=options.settings(context).device.value,
        progress=progress(context),
    )
    titles = ("clean rows it helps most", "clean rows it hurts most")
    if found.side == "clean":
        titles = ("training rows that help it most", "training rows that hurt it most")
    pairs = zip(titles, (found.helps, found.hurts), strict=True)
    tables = [others_table(title, others) for title, others in pairs if others]
    if found.nearest:
        tables.append(others_table("training rows most alike", found.nearest, measure="cosine"))
    tell(context, found.as_dict(), why_table(found), *tables)
