"""`sama report`, `sama inspect` and `sama compare`: what finished runs tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli.opening import tell
from samacli.cli.options import Json, home

Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="What --output of `reweight` or `prune` named.", callback=home
    ),
]


def report(context: typer.Context, directory: Directory, json: Json = False) -> None:
    """Make DIR/report.html again, from the other files of a finished run.

    Example:

        sama report runs/mine
    """
    from samacli.report import build_report

    file = build_report(directory)
    tell(context, {"report": file}, str(file))


def inspect(
    context: typer.Context,
    directory: Directory,
    row: Annotated[
        int,
        typer.Option(
            "--row", min=0, help="Position in the input, counted from 0.", show_default=False
        ),
    ],
    json: Json = False,
) -> None:
    """Tell why an example has its weight: its evidence, and where it stands among the others.

    Example:

        sama inspect runs/mine --row 17
    """
    from samacli.cli.tables import inspected_table, neighbours_table
    from samacli.report.inspect import inspect as run

    found = run(directory, row)
    tell(context, found.as_dict(), inspected_table(found), neighbours_table(found))


def compare(
    context: typer.Context,
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR DIR …", help="Finished runs.", show_default=False, callback=home
        ),
    ],
    json: Json = False,
) -> None:
    """Show runs side by side: accuracy, wrong labels found, time, and where recipes differ.

    Example:

        sama compare runs/first runs/second
    """
    from samacli.cli.tables import comparison_table, differences_table
    from samacli.report.compare import compare as run

    found = run(directories)
    differences = differences_table(found) or "the recipes are the same"
    tell(context, found.as_dict(), comparison_table(found), differences)
