"""`sama inspect`"""

from __future__ import annotations

from typing import Annotated

import typer

from samacli.cli.console import print_json, stdout
from samacli.cli.options import Json
from samacli.cli.report import Directory


def inspect(
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
    if json:
        print_json(found.as_dict())
        return
    stdout.print(inspected_table(found))
    stdout.print(neighbours_table(found))
